package app

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"taskcluster/internal/config"
)

// WriteReferences writes the references and schemas that a deployment of this
// program publishes into files below dir, in their abstract form: without a
// root URL. Clients are generated from them.
func WriteReferences(ctx context.Context, dir string) error {
	data, err := os.MkdirTemp("", "taskcluster-references-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	listen := "127.0.0.1:0"
	settings, _, err := config.Load(config.Settings{DataDir: &data, Listen: &listen}, "", func(string) string { return "" })
	if err != nil {
		return err
	}
	a, err := New(ctx, settings, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer a.close()
	for _, path := range a.api.Documents() {
		text, _ := a.api.Document(path, "")
		file := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}
