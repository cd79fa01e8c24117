package upgrade

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
)

// TestMigrationsExpand: steps that the previous version has are as they were,
// and further ones only add, so that the previous version can go on beside the
// present one. What takes something away says in a comment which version has no
// use for it any more, and the previous version is that one or later:
//
//	-- contract: unused since COMMIT
func TestMigrationsExpand(t *testing.T) {
	root := testenv.Root(t)
	released := map[string]string{} // path -> database, in the version before
	for _, database := range []string{"sqlite", "postgres"} {
		commit := previous(t, database)
		for _, path := range strings.Fields(string(git(t, "ls-tree", "-r", "--name-only", commit))) {
			if !isMigration(path) {
				continue
			}
			now, err := os.ReadFile(filepath.Join(root, path))
			if err != nil || string(now) != string(git(t, "show", commit+":"+path)) {
				t.Errorf("%s has been released and is not as it was (%v): add the next number instead", path, err)
			}
			if strings.Contains(path, "/"+database+"/") {
				released[path] = database
			}
		}
	}
	if len(released) < 10 {
		t.Errorf("the previous version has only these migrations: %v", released)
	}
	further := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules" || entry.Name() == "bin") {
			return filepath.SkipDir
		}
		name, err := filepath.Rel(root, path)
		if err != nil || !isMigration(filepath.ToSlash(name)) || released[filepath.ToSlash(name)] != "" {
			return err
		}
		further++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		since := contract.FindStringSubmatch(string(text))
		for _, problem := range contracts(string(text)) {
			switch {
			case since == nil:
				t.Errorf("%s: %s. If no version uses it since some commit, add: -- contract: unused since COMMIT", name, problem)
			case !ancestor(root, since[1], previous(t, filepath.Base(filepath.Dir(path)))):
				t.Errorf("%s: %s, unused since %s, and the previous version is older than that", name, problem, since[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d steps as they were released, %d since", len(released), further)
}

func isMigration(path string) bool {
	return strings.HasSuffix(path, ".sql") && strings.Contains(path, "/migrations/") && !strings.Contains(path, "testdata")
}

func ancestor(root, older, newer string) bool {
	cmd := exec.Command("git", "merge-base", "--is-ancestor", older, newer)
	cmd.Dir = root
	return cmd.Run() == nil
}

var (
	contract  = regexp.MustCompile(`(?m)^\s*-- contract: unused since ([0-9a-f]{7,40})\b`)
	comment   = regexp.MustCompile(`--[^\n]*`)
	literal   = regexp.MustCompile(`'[^']*'`)
	made      = regexp.MustCompile(`(?i)\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?"?(\w+)`)
	unique    = regexp.MustCompile(`(?i)^\s*CREATE\s+UNIQUE\s+INDEX\s.*\sON\s+"?(\w+)`)
	alters    = regexp.MustCompile(`(?i)^\s*ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?"?(\w+)`)
	forgiving = regexp.MustCompile(`(?i)\bDROP\s+NOT\s+NULL\b`)
	harmful   = []struct {
		what string
		re   *regexp.Regexp
	}{
		{"it drops something", regexp.MustCompile(`(?i)\bDROP\b`)},
		{"it renames something", regexp.MustCompile(`(?i)\bRENAME\b`)},
		{"it changes a column's type", regexp.MustCompile(`(?i)\bALTER\s+(?:COLUMN\s+)?\w+\s+(?:SET\s+DATA\s+)?TYPE\b`)},
		{"it forbids NULL in a column that the previous version may leave out", regexp.MustCompile(`(?i)\bSET\s+NOT\s+NULL\b`)},
		{"it adds a rule that the previous version does not know", regexp.MustCompile(`(?i)\bADD\s+(?:CONSTRAINT|CHECK|UNIQUE|PRIMARY|FOREIGN)\b`)},
		{"it empties a table", regexp.MustCompile(`(?i)\bTRUNCATE\b`)},
	}
	adds   = regexp.MustCompile(`(?i)\bADD\s+(?:COLUMN\s+)?(?:IF\s+NOT\s+EXISTS\s+)?\w+`)
	strict = regexp.MustCompile(`(?i)\bNOT\s+NULL\b`)
	filled = regexp.MustCompile(`(?i)\b(?:DEFAULT|GENERATED)\b`)
)

// contracts lists what in a migration takes something from the version before.
func contracts(script string) (problems []string) {
	script = literal.ReplaceAllString(comment.ReplaceAllString(script, ""), "''")
	fresh := map[string]bool{} // tables that the version before does not know
	for _, m := range made.FindAllStringSubmatch(script, -1) {
		fresh[strings.ToLower(m[1])] = true
	}
	for _, statement := range strings.Split(script, ";") {
		if m := alters.FindStringSubmatch(statement); m != nil && fresh[strings.ToLower(m[1])] {
			continue
		}
		if m := unique.FindStringSubmatch(statement); m != nil && !fresh[strings.ToLower(m[1])] {
			problems = append(problems, "it makes values unique that the previous version may repeat")
		}
		rest := forgiving.ReplaceAllString(statement, "")
		for _, h := range harmful {
			if h.re.MatchString(rest) {
				problems = append(problems, h.what+":"+strings.Join(strings.Fields(" "+statement), " "))
			}
		}
		if alters.MatchString(statement) {
			for _, column := range strings.Split(rest, ",") {
				if adds.MatchString(column) && strict.MatchString(column) && !filled.MatchString(column) {
					problems = append(problems, "it adds a column NOT NULL without a default: "+strings.Join(strings.Fields(column), " "))
				}
			}
		}
	}
	return problems
}

// TestContracts: what takes something away is seen, what adds is not.
func TestContracts(t *testing.T) {
	for script, bad := range map[string]bool{
		"CREATE TABLE a (b TEXT NOT NULL);\nCREATE UNIQUE INDEX c ON a (b); ALTER TABLE a DROP COLUMN b": false,
		"CREATE INDEX c ON a (b)": false,
		"ALTER TABLE a ADD COLUMN b BIGINT NOT NULL DEFAULT 0, ADD COLUMN c TEXT": false,
		"ALTER TABLE a ALTER COLUMN b DROP NOT NULL":                              false,
		"ALTER TABLE a SET (fillfactor = 70)":                                     false,
		"-- we DROP nothing\nINSERT INTO a VALUES ('DROP')":                       false,
		"ALTER TABLE a ADD COLUMN b BIGINT NOT NULL":                              true,
		"alter table a add column c text,\n add b bigint not null":                true,
		"DROP TABLE a":                                            true,
		"DROP INDEX IF EXISTS a":                                  true,
		"ALTER TABLE a DROP COLUMN b":                             true,
		"ALTER TABLE a RENAME TO b":                               true,
		"ALTER TABLE a RENAME COLUMN b TO c":                      true,
		"ALTER TABLE a ALTER COLUMN b TYPE BIGINT":                true,
		"ALTER TABLE a ALTER COLUMN b SET NOT NULL":               true,
		"ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0)":            true,
		"CREATE UNIQUE INDEX c ON a (b)":                          true,
		"CREATE TABLE b (c TEXT); CREATE UNIQUE INDEX c ON a (b)": true,
	} {
		if got := contracts(script); (len(got) > 0) != bad {
			t.Errorf("%q: %q", script, got)
		}
	}
}
