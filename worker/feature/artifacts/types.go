package artifacts

import (
	"mime"
	"path"
	"strings"
)

// compressed are extensions of formats that gzip would not make smaller.
var compressed = map[string]bool{
	"7z": true, "aab": true, "apk": true, "bz2": true, "deb": true, "dmg": true, "flv": true, "gif": true,
	"gz": true, "jar": true, "jpeg": true, "jpg": true, "npz": true, "pkg": true, "png": true, "swf": true,
	"tbz": true, "tgz": true, "wasm": true, "webp": true, "whl": true, "woff": true, "woff2": true, "xpi": true,
	"xz": true, "zip": true, "zst": true,
}

// types come before the system's list, which differs from machine to machine.
var types = map[string]string{
	"css": "text/css; charset=utf-8", "csv": "text/csv; charset=utf-8", "gz": "application/gzip",
	"htm": "text/html; charset=utf-8", "html": "text/html; charset=utf-8", "jpeg": "image/jpeg", "jpg": "image/jpeg",
	"js": "text/javascript; charset=utf-8", "json": "application/json", "log": "text/plain; charset=utf-8",
	"md": "text/markdown; charset=utf-8", "mjs": "text/javascript; charset=utf-8", "mp4": "video/mp4", "pdf": "application/pdf",
	"png": "image/png", "svg": "image/svg+xml", "tar": "application/x-tar", "tgz": "application/gzip",
	"toml": "application/toml", "txt": "text/plain; charset=utf-8", "wasm": "application/wasm", "webp": "image/webp",
	"xml": "text/xml; charset=utf-8", "xz": "application/x-xz", "yaml": "application/yaml", "yml": "application/yaml",
	"zip": "application/zip", "zst": "application/zstd",
}

// TypeOf is the content type for a file's name.
func TypeOf(name string) string {
	ext := extension(name)
	if t, ok := types[ext]; ok {
		return t
	}
	if t := mime.TypeByExtension("." + ext); ext != "" && t != "" {
		return t
	}
	return "application/octet-stream"
}

// encodingOf is "gzip", or "identity" for what is compressed already.
func encodingOf(name string) string {
	if compressed[extension(name)] {
		return "identity"
	}
	return "gzip"
}

func extension(name string) string { return strings.ToLower(strings.TrimPrefix(path.Ext(name), ".")) }
