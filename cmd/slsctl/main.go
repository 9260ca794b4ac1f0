// Command slsctl keeps the service level specifications of an AS.
package main

import (
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/cli/slsctl"
)

func main() { cli.Main(slsctl.App()) }
