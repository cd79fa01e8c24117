package store_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

func TestOwnStatements(t *testing.T) {
	// SQLite's has it already when migrations run.
	bookkeeping := store.Migrations{Component: "bookkeeping", FS: fstest.MapFS{
		"sqlite/0001_table.sql":   {Data: []byte(`SELECT 1;`)},
		"postgres/0001_table.sql": {Data: []byte(store.BookkeepingTable(store.Postgres))},
	}}
	// pg_advisory_xact_lock has a column of no type; see it only prepared.
	statements := slices.DeleteFunc(store.OwnStatements(), func(q *store.Stmt) bool { return q.String() == "SELECT 1" })
	storetest.PrepareAll(t, []store.Migrations{bookkeeping, storetest.Migrations()}, append(statements, storetest.Statements()...))
}

func TestRenumber(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "",
		"a = ? AND b = ?":              "a = $1 AND b = $2",
		"a = '?' AND b = ?":            "a = '?' AND b = $1",
		"a = 'it''s ?' AND b = ?":      "a = 'it''s ?' AND b = $1",
		`a = "col?" AND b = ?`:         `a = "col?" AND b = $1`,
		"a -- what?\n= ?":              "a -- what?\n= $1",
		"a /* ? /* ? */ ? */ = ?":      "a /* ? /* ? */ ? */ = $1",
		"a = $x$ ? $$ ? $x$ AND b = ?": "a = $x$ ? $$ ? $x$ AND b = $1",
		"a = $$ ? $$ || ?":             "a = $$ ? $$ || $1",
		`a = E'\'?' AND b = ?`:         `a = E'\'?' AND b = $1`,
		`a = '\' AND b = ?`:            `a = '\' AND b = $1`,
		"name'?'":                      "name'?'",
		"a = 'open ?":                  "a = 'open ?",
		"(?, ?),(?,?)":                 "($1, $2),($3,$4)",
		"é = ?":                        "é = $1",
		"a$b$c = ? -- $b$":             "a$b$c = $1 -- $b$",
	} {
		if got := store.Renumber(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestWrites(t *testing.T) {
	for text, want := range map[string]bool{
		"SELECT a FROM b": false, "insert into a values (1)": true, "SELECT 'INSERT'": false,
		"WITH x AS (SELECT 1) UPDATE a SET b = 1": true, "SELECT updated FROM a -- DELETE": false,
		"SELECT a FROM b FOR UPDATE": true, `SELECT "delete" FROM a`: false,
	} {
		if store.Writes(text) != want {
			t.Errorf("%q writes: %v", text, !want)
		}
	}
}

// FuzzRenumber builds statements of parts whose meaning is known, and checks
// that exactly the placeholders among them are numbered. The raw text must at
// least keep everything but question marks.
func FuzzRenumber(f *testing.F) {
	for _, seed := range []string{"0", "1'?'2\"?3*/?4\n?5$?6\\'?7a?0", "0000", "1''?5$$", "6\\"} {
		f.Add(seed)
	}
	parts, marks := regexp.MustCompile(`[0-7][^0-7]*`), regexp.MustCompile(`[?$0-9]`)
	f.Fuzz(func(t *testing.T, raw string) {
		raw = strings.ToValidUTF8(raw, "")
		drop := func(s, chars string) string {
			return strings.Map(func(r rune) rune {
				if strings.ContainsRune(chars, r) {
					return -1
				}
				return r
			}, s)
		}
		var text, want strings.Builder
		n := 0
		for _, part := range parts.FindAllString(raw, -1) {
			inner := part[1:] + "?"
			switch part[0] {
			case '0':
				n++
				text.WriteString("? ")
				want.WriteString("$" + strconv.Itoa(n) + " ")
				continue
			case '1':
				inner = "'" + strings.ReplaceAll(inner, "'", "''") + "'"
			case '2':
				inner = `"` + strings.ReplaceAll(inner, `"`, `""`) + `"`
			case '3':
				inner = "/*" + drop(inner, "*/") + "/*?*/*/"
			case '4':
				inner = "--" + drop(inner, "\n") + "\n"
			case '5':
				inner = "$tag$" + drop(inner, "$") + "$$$tag$"
			case '6':
				inner = "E'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(inner) + "'"
			case '7':
				inner = "word$1"
			}
			text.WriteString(inner + " ")
			want.WriteString(inner + " ")
		}
		if got := store.Renumber(text.String()); got != want.String() {
			t.Fatalf("%q became %q, want %q", text.String(), got, want.String())
		}
		if got := store.Renumber(raw); marks.ReplaceAllString(got, "") != marks.ReplaceAllString(raw, "") {
			t.Fatalf("%q became %q", raw, got)
		}
	})
}
