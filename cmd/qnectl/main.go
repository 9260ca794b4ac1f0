// Command qnectl reserves quality of service across networks, and shows how a
// QNE is.
package main

import (
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/cli/qnectl"
)

func main() { cli.Main(qnectl.App()) }
