// Command bngfe is the forwarding element of a broadband network gateway: a
// user-space data plane with the subscribers of its configuration, programmed
// over FPC.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/urfave/cli/v2"

	"github.com/interqos/interqos/bng/fe"
	"github.com/interqos/interqos/dataplane/soft"
	"github.com/interqos/interqos/fpc/transport"
)

// version may be set by the linker.
var version = ""

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

func main() {
	app := &cli.App{
		Name:    "bngfe",
		Usage:   "forward subscribers' packets, policed by what is reserved",
		Version: buildVersion(),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "read the configuration from `FILE`", Value: "bngfe.yaml"},
			&cli.BoolFlag{Name: "check", Usage: "check the configuration and end"},
		},
		HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return cli.Exit(fmt.Sprintf("bngfe: unexpected argument %q; expected only flags, see bngfe --help", c.Args().First()), 2)
			}
			cfg, err := fe.LoadConfig(c.String("config"))
			if err != nil || c.Bool("check") {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
			defer stop()
			return run(ctx, cfg, filepath.Dir(c.String("config")), logger(cfg))
		},
	}
	if err := app.Run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "bngfe:", err)
		os.Exit(1)
	}
}

func logger(c *fe.Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // checked with the configuration
	opt := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opt))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opt))
}

// run forwards until the context ends or something fails. Relative paths of the
// configuration start in dir.
func run(ctx context.Context, c *fe.Config, dir string, log *slog.Logger) error {
	addr, err := listenAddress(c, dir)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if c.Insecure {
		log.Warn("insecure: true: whoever reaches the FPC socket commands this data plane", "listen", addr.String())
	}
	start := time.Now()
	plane := soft.New(func() int64 { return int64(time.Since(start)) })
	element, err := fe.New(c.DPN, c.Subscribers, plane)
	if err != nil {
		return err
	}
	wire, err := soft.Listen(plane, c.Wire)
	if err != nil {
		return err
	}
	defer wire.Close()
	server, err := transport.Listen(addr, element)
	if err != nil {
		return err
	}
	defer server.Close()
	failed := make(chan error, 3)
	if c.Metrics.IsValid() {
		stop := serveMetrics(c, plane, wire, failed)
		defer stop()
	}
	go func() { failed <- wire.Serve() }()
	go func() { failed <- server.Serve() }()
	log.Info("forwarding", "version", buildVersion(), "dpn", c.DPN, "wire", wire.Addr(), "fpc", addr.String(), "subscribers", len(c.Subscribers))
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("ending")
	}
	return err
}

func listenAddress(c *fe.Config, dir string) (transport.Address, error) {
	if path, ok := strings.CutPrefix(c.Listen, "unix:"); ok && path != "" && !filepath.IsAbs(path) {
		return transport.ParseAddress("unix:"+filepath.Join(dir, path), c.Insecure)
	}
	return transport.ParseAddress(c.Listen, c.Insecure)
}

// serveMetrics serves /metrics and returns what ends that.
func serveMetrics(c *fe.Config, plane *soft.Plane, wire *soft.Wire, failed chan<- error) func() {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{plane: plane, wire: wire})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Addr: c.Metrics.String(), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("metrics: %w", err)
		}
	}()
	return func() { server.Close() }
}
