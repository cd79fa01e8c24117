// Package browser opens the page in a real Chromium, as a person would.
package browser

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"taskcluster/test/harness"
)

// open starts Chromium with a profile of its own.
func open(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Fatal("Chromium is not installed; `make test` installs it")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true), chromedp.WindowSize(1200, 800))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	// The first action starts the browser, which lives as long as its context.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// screenshot keeps a picture in the folder that SCREENSHOTS names.
func screenshot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Error(err)
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Error(err)
	}
}

func text(t *testing.T, ctx context.Context, selector string) string {
	t.Helper()
	s, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
	if err != nil {
		t.Fatalf("%s: %v", selector, err)
	}
	return s
}

const slow = `
tasks:
  talk:
    command: |
      echo first words
      while [ ! -e "$GATE" ]; do sleep 0.05; done
      echo last words
    env: {GATE: "%GATE%"}
`

// TestPage follows a task on the page from its start to its end: the log is
// seen while the task still runs.
func TestPage(t *testing.T) {
	binary := harness.Binary(t)
	server := harness.Start(t, binary, t.TempDir(), "--worker")
	defer server.Stop()
	ctx := open(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(server.RootURL+"/"), chromedp.WaitVisible(chromedp.CSS("#empty"))); err != nil {
		t.Fatalf("a new deployment says that nothing has run: %v", err)
	}
	screenshot(t, ctx, "empty")

	dir := t.TempDir()
	gate := filepath.Join(dir, "gate")
	file := filepath.Join(dir, "talk.yml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(slow, "%GATE%", gate)), 0o644); err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1)
	go func() {
		_, stderr, status := harness.Run(t, binary, server.Env(), "run", file)
		if status != 0 {
			ended <- stderr
		}
		close(ended)
	}()
	if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(".group a .state.running")), chromedp.Click(chromedp.CSS(".group h3 a")),
		chromedp.WaitVisible(chromedp.CSS("#one-group .task .running")), chromedp.Click(chromedp.CSS("#one-group a.task"))); err != nil {
		t.Fatal(err)
	}
	waitFor(t, ctx, `document.querySelector("#log").textContent.includes("first words")`)
	if log := text(t, ctx, "#log"); strings.Contains(log, "\nlast words") {
		t.Errorf("the task has not been let go on yet: %s", log)
	}
	screenshot(t, ctx, "running")
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if problem := <-ended; problem != "" {
		t.Fatal(problem)
	}
	waitFor(t, ctx, `document.querySelector("#task-title .completed") !== null`)
	waitFor(t, ctx, `document.querySelector("#log").textContent.includes("last words")`)
	waitFor(t, ctx, `document.querySelector("#artifacts").textContent.includes("live_backing.log")`)
	screenshot(t, ctx, "completed")

	// The page of the group follows, too.
	waitFor(t, ctx, `document.querySelector("#one-group .task .completed") !== null`)
	screenshot(t, ctx, "group")
}

// waitFor polls the page until an expression holds.
func waitFor(t *testing.T, ctx context.Context, js string) {
	t.Helper()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](js, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(30*time.Second))); err != nil {
		t.Fatalf("%s never came true: %v\npage: %s", js, err, text(t, ctx, "body"))
	}
}
