package node

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/interqos/interqos/fpc/transport"
	"github.com/interqos/interqos/internal/strictyaml"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/intradomain/bng"
	"github.com/interqos/interqos/intradomain/pathdb"
	"github.com/interqos/interqos/intradomain/sequence"
)

// CheckDrivers reads the drivers' own parts of a configuration, which Load keeps
// as they are, and says what is wrong with them. It opens nothing.
func CheckDrivers(cfg *Config) error {
	var errs []error
	for _, d := range cfg.Intradomain {
		if _, err := readDriver(cfg, d); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.Path, err))
		}
	}
	return errors.Join(errs...)
}

// openDrivers makes the intra-domain controller: the configured drivers, asked
// in order, all of them or none.
func openDrivers(cfg *Config, log *slog.Logger) (intradomain.Controller, error) {
	if err := CheckDrivers(cfg); err != nil {
		return nil, err
	}
	var parts []intradomain.Controller
	for _, d := range cfg.Intradomain {
		open, err := readDriver(cfg, d)
		if err == nil {
			var c intradomain.Controller
			if c, err = open(log); err == nil {
				parts = append(parts, c)
				continue
			}
		}
		for _, p := range parts {
			_ = p.Close() // the error that counts is the one before
		}
		return nil, fmt.Errorf("%s: %w", d.Path, err)
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return sequence.New(parts...), nil
}

// driverOpener makes a driver that has been read.
type driverOpener func(*slog.Logger) (intradomain.Controller, error)

func readDriver(cfg *Config, d DriverConfig) (driverOpener, error) {
	r := &strictyaml.Reader{File: cfg.File}
	switch d.Name {
	case "pathdb":
		c := pathdb.Read(r.Part(d.Node, d.Path))
		if err := r.Err(); err != nil {
			return nil, err
		}
		return func(*slog.Logger) (intradomain.Controller, error) { return pathdb.New(c) }, nil
	case "bng":
		target := r.Part(d.Node, d.Path).Object("a mapping with target", "target").Need("target").Text("where the element serves FPC, e.g. unix:bngfe.sock", "")
		if err := r.Err(); err != nil {
			return nil, err
		}
		address, err := transport.ParseAddress(cfg.resolveTarget(target), cfg.Insecure)
		if err != nil {
			return nil, fmt.Errorf("target: %w", err)
		}
		return func(log *slog.Logger) (intradomain.Controller, error) {
			client, err := transport.Dial(address)
			if err != nil {
				return nil, err
			}
			return bng.New(client, bng.Options{Log: log}), nil
		}, nil
	}
	return nil, fmt.Errorf("no driver %q, expected pathdb or bng", d.Name)
}

// resolveTarget makes the path of a unix: target relative to the file's folder.
func (c *Config) resolveTarget(target string) string {
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		return "unix:" + c.resolve(path)
	}
	return target
}
