// Command gen writes the typed Go clients from the API references and JSON
// schemas that the services publish:
//
//	go run ./client/gen -references DIR_OR_URL -services auth,queue -out client
//
// DIR_OR_URL holds references/<service>/v1/api.json (optionally
// exchanges.json, for the types of messages) and schemas/<service>/v1/*.json,
// as a deployment's root URL does. With -check nothing is written; the exit
// status is 1 if a file is not what would be written.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("gen", flag.ContinueOnError)
	flags.SetOutput(stderr)
	references := flags.String("references", "", "directory or URL that holds references/ and schemas/")
	services := flags.String("services", "", "services to write clients for, separated by commas")
	out := flags.String("out", ".", "directory that gets one package per service")
	check := flags.Bool("check", false, "only check that the files are up to date")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *references == "" || *services == "" || flags.NArg() > 0 {
		return errors.New("need -references and -services, and no arguments")
	}
	read := readDir(*references)
	if strings.HasPrefix(*references, "http://") || strings.HasPrefix(*references, "https://") {
		read = readURL(*references)
	}
	for _, service := range strings.Split(*services, ",") {
		files, err := generate(read, service)
		if err != nil {
			return fmt.Errorf("%s: %w", service, err)
		}
		dir := filepath.Join(*out, packageName(service))
		if err := put(dir, files, *check); err != nil {
			return err
		}
	}
	return nil
}

// put writes files into dir, or checks that they are there.
func put(dir string, files map[string][]byte, check bool) error {
	if !check {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for name, want := range files {
		path := filepath.Join(dir, name)
		got, err := os.ReadFile(path)
		switch {
		case err == nil && bytes.Equal(got, want):
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case check:
			return fmt.Errorf("%s is not up to date; run go generate ./client", path)
		}
		if err := os.WriteFile(path, want, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// reader returns a document by its path below the root, or an error that is
// fs.ErrNotExist.
type reader func(path string) ([]byte, error)

func readDir(dir string) reader {
	return func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, filepath.FromSlash(path))) }
}

func readURL(root string) reader {
	hc := &http.Client{Timeout: 30 * time.Second}
	return func(path string) ([]byte, error) {
		reply, err := hc.Get(strings.TrimRight(root, "/") + "/" + path)
		if err != nil {
			return nil, err
		}
		defer reply.Body.Close()
		switch reply.StatusCode {
		case http.StatusOK:
			return io.ReadAll(io.LimitReader(reply.Body, 16<<20))
		case http.StatusNotFound:
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
		return nil, fmt.Errorf("%s: status %d", path, reply.StatusCode)
	}
}

// packageName returns the name of a service's package: "workermanager" for
// "worker-manager".
func packageName(service string) string { return strings.ReplaceAll(service, "-", "") }

// initialisms are the words that Go writes in capitals.
var initialisms = []string{
	"api", "aws", "dns", "dsn", "gcp", "html", "http", "https", "id", "ids", "ip", "irc",
	"json", "s3", "sas", "sha256", "sha512", "ssh", "tls", "ttl", "uri", "url", "urls", "uuid",
}

// goName makes an exported Go name of a published one, such as
// "task-status-response", "taskQueueId" or "azureTableSAS".
func goName(published string) string {
	var words []string
	start := 0
	flush := func(end int) {
		if end > start {
			words = append(words, published[start:end])
		}
	}
	for i := range len(published) {
		switch c := published[i]; {
		case !isLetter(c) && (c < '0' || c > '9'):
			flush(i)
			start = i + 1
		case isUpper(c) && i > start && !isUpper(published[i-1]):
			flush(i)
			start = i
		}
	}
	flush(len(published))
	var name strings.Builder
	for _, word := range words {
		switch lower := strings.ToLower(word); {
		case lower == "ids" || lower == "urls":
			name.WriteString(strings.ToUpper(lower[:len(lower)-1]) + "s")
		case slices.Contains(initialisms, lower):
			name.WriteString(strings.ToUpper(lower))
		default:
			name.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	if name.Len() == 0 || !isLetter(name.String()[0]) {
		return "X" + name.String()
	}
	return name.String()
}

// argName makes the name of a parameter of it.
func argName(published string) string {
	name := goName(published)
	n := 1
	for n < len(name) && isUpper(name[n]) && (n+1 == len(name) || isUpper(name[n+1])) {
		n++
	}
	name = strings.ToLower(name[:n]) + name[n:]
	if slices.Contains([]string{"c", "ctx", "in", "q", "out", "err", "lifetime", "type", "range", "func", "map", "var", "package", "import", "client"}, name) {
		return name + "_"
	}
	return name
}

func isUpper(c byte) bool  { return 'A' <= c && c <= 'Z' }
func isLetter(c byte) bool { return isUpper(c) || 'a' <= c && c <= 'z' }
