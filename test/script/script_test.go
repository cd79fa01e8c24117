// Package script drives the program from outside, as a person at a shell would:
// each .txtar file is a script of testscript, which runs "taskcluster" as a
// process of its own against a deployment of its own.
//
// The scripts of this directory find a deployment with a worker running, whose
// root.env is in ./data; those in bare/ find nothing.
package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"taskcluster/internal/app"
	"taskcluster/internal/cli"
	"taskcluster/internal/config"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"taskcluster": func() {
			os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, params(".", func(env *testscript.Env) error {
		return errors.Join(deploy(env), variables(env))
	}))
}

func TestBareScripts(t *testing.T) {
	testscript.Run(t, params("bare", variables))
}

func params(dir string, setup func(*testscript.Env) error) testscript.Params {
	return testscript.Params{
		Dir: dir, Setup: setup, RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"setjson": setJSON,
			"await":   await,
		},
	}
}

// variables lets scripts find the examples.
func variables(env *testscript.Env) error {
	examples, err := filepath.Abs("../../examples")
	env.Setenv("EXAMPLES", examples)
	env.Setenv("USER", "tester")
	return err
}

// deploy starts a deployment in the test's own process, and stops it when the
// script has ended. ADDR is where it listens.
func deploy(env *testscript.Env) error {
	listen, dir, worker := "127.0.0.1:0", filepath.Join(env.WorkDir, "data"), true
	settings, _, err := config.Load(config.Settings{Listen: &listen, DataDir: &dir, Worker: &worker}, "", func(string) string { return "" })
	if err != nil {
		return err
	}
	ctx := context.Background()
	a, err := app.New(ctx, settings, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		return err
	}
	env.Setenv("ADDR", strings.TrimPrefix(a.RootURL(), "http://"))
	env.Defer(func() {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := a.Stop(ctx); err != nil {
			panic(fmt.Sprintf("the deployment did not stop in order: %v", err))
		}
	})
	return nil
}

// setJSON sets a variable to a value in a JSON file:
//
//	setjson VARIABLE stdout tasks.0.taskId
func setJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: setjson VARIABLE FILE PATH")
	}
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &v))
	for _, key := range strings.Split(args[2], ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[key]
		case []any:
			i, err := strconv.Atoi(key)
			ts.Check(err)
			v = at[i]
		}
	}
	if v == nil {
		ts.Fatalf("there is no %s in %s", args[2], args[1])
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

// await waits until a file is there.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	name := ts.MkAbs(args[0])
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s did not appear", name)
		}
	}
}
