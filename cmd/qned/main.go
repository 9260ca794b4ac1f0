// Command qned is the inter-domain QNE of one AS, and its border edges.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/interqos/interqos/node"
)

func main() {
	app := &cli.App{
		Name:      "qned",
		Usage:     "the inter-domain QNE of one autonomous system",
		ArgsUsage: " ",
		Version:   version(),
		Description: "Speaks QoS-NSLP over GIST with the QNEs of neighbouring ASs, admits reservations against\n" +
			"the SLSs that this AS holds with them, and relays discovery at its border edges.\n" +
			"SIGHUP reads the configuration again; SIGINT and SIGTERM stop it. Nothing that is\n" +
			"committed is lost by a restart.",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "config", Aliases: []string{"c"}, Usage: "configuration `FILE` (YAML)", Value: "/etc/interqos/qned.yaml", EnvVars: []string{"INTERQOS_CONFIG"}},
			&cli.PathFlag{Name: "restore", Usage: "make the store anew from a `FILE` that slsctl backup has written, and stop; the former store has to be moved away first"},
			&cli.BoolFlag{Name: "check", Usage: "read the configuration, say what is wrong with it, and stop"},
		},
		Action: func(c *cli.Context) error {
			if c.IsSet("restore") {
				return restore(c.App.Writer, c.Path("config"), c.Path("restore"))
			}
			return run(c.Context, c.Path("config"), c.Bool("check"), c.App.Version)
		},
	}
	if err := app.RunContext(context.Background(), os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "qned:", err)
		os.Exit(1)
	}
}

// restore makes the store of a qned that is stopped.
func restore(w io.Writer, config, backup string) error {
	cfg, err := node.Load(config)
	if err != nil {
		return err
	}
	f, err := os.Open(backup)
	if err != nil {
		return err
	}
	c, err := node.RestoreStore(cfg, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s not restored: %w", backup, err)
	}
	_, err = fmt.Fprintf(w, "%s: %d SLSs and %d reservations restored\n", cfg.Store.Path, len(c.SLSs), len(c.Records))
	return err
}

func run(ctx context.Context, file string, check bool, version string) error {
	cfg, err := node.Load(file)
	if err != nil {
		return err
	}
	if check {
		if err := node.CheckDrivers(cfg); err != nil {
			return err
		}
		fmt.Println(file + ": good")
		return nil
	}
	// The heap is small and lives long: collecting at five times instead of
	// twice its size halves what a reservation costs in collection.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	// One core for each shard: more would only pass a reservation from thread
	// to thread.
	if os.Getenv("GOMAXPROCS") == "" && cfg.GIST.Shards > 0 {
		runtime.GOMAXPROCS(cfg.GIST.Shards)
	}
	level := new(slog.LevelVar)
	level.Set(cfg.Log.Level)
	log := logger(os.Stderr, cfg.Log.Format, level).With("as", cfg.AS)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	n, err := node.Start(ctx, cfg, node.Options{Log: log, Level: level, Version: version})
	if err != nil {
		return err
	}
	defer n.Close()
	log.Info("running", "version", version, "gist", cfg.GIST.Address, "admin", cfg.Admin.Listen.String())
	for {
		select {
		case <-ctx.Done():
			log.Info("stopping")
			return nil
		case <-hup:
			if _, err := n.Reload(ctx, false); err != nil && !errors.Is(err, context.Canceled) {
				log.Error("configuration not reloaded", "err", err)
			}
		}
	}
}

func logger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// version is the module's, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return info.Main.Version
}
