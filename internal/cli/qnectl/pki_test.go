package qnectl

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/cli/clitest"
)

// What these commands print when all is well is in docs/pki.md, which a test
// runs.

// pkiRun runs qnectl pki in a directory of its own.
func pkiRun(t *testing.T, dir string, args ...string) clitest.Result {
	t.Helper()
	return clitest.Run(t, App(), "", append([]string{"pki"}, append(args, "--dir", dir)...)...)
}

func pkiMust(t *testing.T, dir string, args ...string) string {
	t.Helper()
	r := pkiRun(t, dir, args...)
	if r.Status != cli.ExitOK || r.Stderr != "" {
		t.Fatalf("pki %s: status %d, %s", strings.Join(args, " "), r.Status, r.Stderr)
	}
	return r.Stdout
}

func TestPKIErrors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	none := filepath.Join(t.TempDir(), "none")
	pkiMust(t, dir, "init", "--lifetime", "30d")
	pkiMust(t, dir, "issue", "as65001", "--as", "65001", "--lifetime", "1d")
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		dir    string
		args   string
		status int
		text   string
	}{
		{dir, "init", 1, "has an authority already: replace it with qnectl pki rotate-ca, or overwrite it with --force"},
		{dir, "init x", 2, `"x" is one argument too many`},
		{none, "init --lifetime 10", 2, `--lifetime "10": expected a number and a unit`},
		{none, "init --lifetime 10y -o xml", 2, `--output "xml"`},
		{dir, "issue", 2, "which name?"},
		{none, "issue as65002", 1, "make one with qnectl pki init --dir " + none},
		{dir, "issue as65001 --lifetime 1d", 1, "give it a new time with qnectl pki renew as65001, or overwrite it with --force"},
		{dir, "issue ../x", 2, `name "../x": expected up to 64 letters`},
		{dir, "issue ca", 2, `name "ca" is the authority's own`},
		{dir, "issue x --as 0", 2, `--as "0": expected the number of an AS`},
		{dir, "issue x --as AS65001", 2, `--as "AS65001": expected the number of an AS`},
		{dir, "issue x --as 23456", 2, `--as "23456": expected the number of an AS`},
		{dir, "issue x --ip 127.0.0", 2, `--ip "127.0.0": expected an address`},
		{dir, "issue x --lifetime 1d --dns a_b", 1, `DNS name "a_b": expected one such as`},
		{dir, "issue x --lifetime 31d", 1, "ask for less, or make a new authority (qnectl pki rotate-ca)"},
		{dir, "renew", 2, "which certificate (or --all)?"},
		{dir, "renew --all as65001", 2, "either --all or names"},
		{dir, "renew nobody", 1, "there is no certificate " + filepath.Join(dir, "nobody.crt")},
		{dir, "renew as65001 --within x", 2, `--within "x"`},
		{dir, "renew as65001 --lifetime x", 2, `--lifetime "x"`},
		{none, "renew --all", 1, "make one with qnectl pki init"},
		{none, "renew as65001", 1, "make one with qnectl pki init"},
		{none, "rotate-ca", 1, "make one with qnectl pki init"},
		{dir, "rotate-ca --force", 2, "--force is for --finish"},
		{dir, "rotate-ca --finish --name x", 2, "--finish makes nothing new"},
		{none, "list", 1, "make one with qnectl pki init"},
		{dir, "verify " + filepath.Join(dir, "as65001.key"), 1, `PEM block 1 is "PRIVATE KEY", expected "CERTIFICATE"`},
		{none, "verify " + filepath.Join(dir, "as65001.crt"), 1, "name them with --ca or --dir"},
		{dir, "verify " + filepath.Join(dir, "as65001.crt") + " --host 127.9.9.9", 1, "would not be accepted: "},
		{dir, "verify " + filepath.Join(dir, "ca.crt"), 0, ""},
	} {
		r := pkiRun(t, one.dir, strings.Fields(one.args)...)
		if r.Status != one.status || !strings.Contains(r.Stderr, one.text) {
			t.Errorf("pki %s: status %d, %q; expected %d, %q", one.args, r.Status, r.Stderr, one.status, one.text)
		}
	}
	after, err := os.ReadDir(dir)
	if err != nil || len(after) != len(before) {
		t.Errorf("%d files, there were %d: %v", len(after), len(before), err)
	}
	if _, err := os.Stat(none); err == nil {
		t.Errorf("%s was made", none)
	}
}

func TestPKIForce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	file := filepath.Join(dir, "as65001.crt")
	pkiMust(t, dir, "init")
	pkiMust(t, dir, "issue", "as65001", "--as", "65001")
	first := pkiMust(t, dir, "verify", file)
	pkiMust(t, dir, "issue", "as65001", "--as", "65009", "--force")
	if second := pkiMust(t, dir, "verify", file); !strings.Contains(first, "AS65001") || !strings.Contains(second, "AS65009") {
		t.Errorf("%s%s", first, second)
	}
	pkiMust(t, dir, "init", "--force")
	if r := pkiRun(t, dir, "verify", file); r.Status != 1 || !strings.Contains(r.Stderr, "none of the trusted authorities has signed it") {
		t.Errorf("status %d, %s", r.Status, r.Stderr)
	}
}

// Every command has an answer for programs.
func TestPKIJSON(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	file := filepath.Join(dir, "as65001.crt")
	keys := func(args ...string) map[string]any {
		t.Helper()
		r := pkiRun(t, dir, append(args, "-o", "json")...)
		var m map[string]any
		if err := json.Unmarshal([]byte(r.Stdout), &m); err != nil || r.Stderr != "" {
			t.Fatalf("%v: %v, %s", args, err, r.Stderr)
		}
		return m
	}
	one := func(m map[string]any, key string, at int) map[string]any {
		t.Helper()
		list, _ := m[key].([]any)
		if len(list) <= at {
			t.Fatalf("no %s[%d] in %v", key, at, m)
		}
		return list[at].(map[string]any)
	}
	if m := keys("init", "--name", "lab"); m["subject"] != "lab" || m["authority"] != true || m["as"] != nil {
		t.Errorf("init: %v", m)
	}
	m := keys("issue", "as65001", "--as", "65001", "--ip", "127.1.0.1", "--dns", "qne.example")
	if m["as"] != 65001.0 || m["file"] != file || m["addresses"].([]any)[0] != "127.1.0.1" || m["dns"].([]any)[0] != "qne.example" || m["issuer"] != "lab" {
		t.Errorf("issue: %v", m)
	}
	serial := m["serial"]
	if m := one(keys("renew", "--all", "--within", "30d"), "certificates", 0); m["renewed"] != false || m["serial"] != serial {
		t.Errorf("renew within 30d: %v", m)
	}
	if m := one(keys("list"), "certificates", 1); m["state"] != "valid" || m["problem"] != nil || m["name"] != "as65001" {
		t.Errorf("list: %v", m)
	}
	if m := one(keys("rotate-ca"), "authorities", 1); m["subject"] != "lab" {
		t.Errorf("rotate-ca: %v", m)
	}
	if m := one(keys("list"), "certificates", 2); m["state"] != "old CA" {
		t.Errorf("list while the authority is replaced: %v", m)
	}
	if m := one(keys("renew", "as65001"), "certificates", 0); m["renewed"] != true || m["serial"] == serial {
		t.Errorf("renew: %v", m)
	}
	if m := one(keys("rotate-ca", "--finish"), "dropped", 0); m["subject"] != "lab" {
		t.Errorf("rotate-ca --finish: %v", m)
	}
	if m := keys("verify", file, "--as", "65001"); m["accepted"] != true || m["problem"] != nil {
		t.Errorf("verify: %v", m)
	}
	if m := keys("verify", file, "--as", "65002"); m["accepted"] != false || !strings.Contains(m["problem"].(string), "it is not of AS65002") {
		t.Errorf("verify for another AS: %v", m)
	}
	r := clitest.Run(t, App(), "", "pki", "show", file, "-o", "json")
	if !strings.Contains(r.Stdout, `"as": 65001`) {
		t.Errorf("show: %s%s", r.Stdout, r.Stderr)
	}
	if err := os.Chmod(filepath.Join(dir, "as65001.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if m := one(keys("list"), "certificates", 1); m["state"] != "open key" || !strings.Contains(m["problem"].(string), "chmod 600") {
		t.Errorf("list with a key that all can read: %v", m)
	}
	if m := keys("verify", file); m["accepted"] != false {
		t.Errorf("verify with a key that all can read: %v", m)
	}
	if out := pkiMust(t, dir, "list"); !strings.Contains(out, "chmod 600") {
		t.Errorf("list does not say what is wrong: %s", out)
	}
}
