package slsctl

import (
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/sls"
	urfave "github.com/urfave/cli/v2"
)

// schemaCommand tells others what an SLS is; it asks no qned.
func schemaCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "schema",
		Usage:     "print the form of an SLS as JSON Schema or YANG",
		ArgsUsage: "json | yang | yang-data FILE...",
		Description: `json prints a JSON Schema, with which an editor completes and checks SLSs while
they are written; yang the same model as a YANG module; yang-data the SLSs of
files as data of that module (RFC 7951), as yanglint and NETCONF tools read it.
None of them asks qned.

    slsctl schema json > sls.schema.json
    slsctl schema yang > interqos-sls.yang
    slsctl schema yang-data gold.yaml > data.json
    yanglint -t data interqos-sls.yang data.json`,
		Action: schema,
		BashComplete: cli.CompleteWith(func(*urfave.Context) ([]string, error) {
			return []string{"json", "yang", "yang-data"}, nil
		}),
	}
}

func schema(c *urfave.Context) error {
	args, err := cli.Args(c, 1, -1, "language: json, yang or yang-data")
	if err != nil {
		return err
	}
	var out []byte
	switch language, files := args[0], args[1:]; {
	case language == "yang-data" && len(files) == 0:
		return cli.Usagef("slsctl schema yang-data: which file? E.g. slsctl schema yang-data gold.yaml")
	case language == "yang-data":
		var all []sls.SLS
		for _, file := range files {
			name, text, err := read(c, file)
			if err != nil {
				return err
			}
			list, err := sls.Parse(name, text)
			if err != nil {
				return err
			}
			all = append(all, list...)
		}
		if out, err = sls.YANGData(all); err != nil {
			return err
		}
	case len(files) > 0:
		return cli.Usagef("slsctl schema: %q is one argument too many; see slsctl schema --help", files[0])
	case language == "json":
		out = sls.JSONSchema()
	case language == "yang":
		out = sls.YANG()
	default:
		return cli.Usagef("slsctl schema: %q is not json, yang or yang-data", language)
	}
	_, err = c.App.Writer.Write(out)
	return err
}
