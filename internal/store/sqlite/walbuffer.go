package sqlite

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite writes a transaction to the write-ahead log with two system calls for
// each page: one for the frame's header, one for the page. With the small
// transactions of a queue, which touch some 70 pages, that is what a commit
// mostly costs. This file puts a layer between SQLite and its own VFS
// (https://sqlite.org/vfs.html) that gathers what is written to the log, and
// hands it on with one call when SQLite syncs the file or does anything else
// with it but write on.
//
// It relies on synchronous=FULL: SQLite syncs the log before it makes a commit
// visible to other connections, which read the file by themselves. A failing
// write is reported by the sync instead, which fails the commit all the same.

// walVFSName is the VFS that connections are opened with.
const walVFSName = "taskcluster"

// walBufferSize is how much is gathered at most, in bytes. SQLite's VFS for unix
// cuts a single write at 0x1ffff bytes.
const walBufferSize = 0x1f000

// walFile follows SQLite's own file object in memory.
type walFile struct {
	methods  sqlite3.Tsqlite3_io_methods // the original's, with some replaced
	original uintptr                     // *sqlite3_io_methods
	buffer   uintptr                     // walBufferSize bytes, 0 until something is written
	offset   int64                       // in the file, of the buffer's first byte
	n        int64                       // bytes in the buffer
}

// registerWALVFS makes the VFS known to SQLite, which keeps one list of them
// for the whole process.
var registerWALVFS = sync.OnceValue(func() error {
	tls := libc.NewTLS()
	defer tls.Close()
	real := sqlite3.Xsqlite3_vfs_find(tls, 0)
	name, err := libc.CString(walVFSName)
	if err != nil || real == 0 {
		return fmt.Errorf("sqlite: no VFS to build on: %w", err)
	}
	vfs := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})))
	if vfs == 0 {
		return errors.New("sqlite: no memory for the VFS")
	}
	v := (*sqlite3.Tsqlite3_vfs)(pointer(vfs))
	*v = *(*sqlite3.Tsqlite3_vfs)(pointer(real))
	v.FszOsFile += int32(unsafe.Sizeof(walFile{}))
	v.FpNext = 0
	v.FzName = name
	v.FpAppData = real
	v.FxOpen = function(walOpen)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, vfs, 0); rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("sqlite: the VFS cannot be registered: error %d", rc)
	}
	return nil
})

// vfsOf is SQLite's own VFS, which ours builds on.
func vfsOf(tls *libc.TLS) *sqlite3.Tsqlite3_vfs {
	return (*sqlite3.Tsqlite3_vfs)(pointer(sqlite3.Xsqlite3_vfs_find(tls, 0)))
}

// function is the address that C code calls a top-level function by.
func function(f any) uintptr {
	type layout [2]uintptr // of an interface: type, value
	return (*layout)(unsafe.Pointer(&f))[1]
}

// as gives the function at an address its type back.
func as[F any](address uintptr) F {
	return *(*F)(unsafe.Pointer(&struct{ uintptr }{address}))
}

type (
	openFunc  = func(tls *libc.TLS, vfs, path, file uintptr, flags int32, outFlags uintptr) int32
	ioFunc    = func(tls *libc.TLS, file, buf uintptr, amount int32, offset int64) int32
	closeFunc = func(tls *libc.TLS, file uintptr) int32
	syncFunc  = func(tls *libc.TLS, file uintptr, flags int32) int32
	cutFunc   = func(tls *libc.TLS, file uintptr, size int64) int32
	sizeFunc  = func(tls *libc.TLS, file, size uintptr) int32
)

// walOf finds our part of a file object: at its end, whose place the real VFS
// tells.
func walOf(file uintptr) *walFile {
	m := (*sqlite3.Tsqlite3_file)(pointer(file)).FpMethods
	return (*walFile)(pointer(m)) // methods is its first field
}

func (w *walFile) originals() *sqlite3.Tsqlite3_io_methods {
	return (*sqlite3.Tsqlite3_io_methods)(pointer(w.original))
}

// walOpen is xOpen: it opens with the real VFS, and takes over the methods of a
// write-ahead log.
func walOpen(tls *libc.TLS, vfs, path, file uintptr, flags int32, outFlags uintptr) int32 {
	real := (*sqlite3.Tsqlite3_vfs)(pointer(vfs)).FpAppData
	v := (*sqlite3.Tsqlite3_vfs)(pointer(real))
	rc := as[openFunc](v.FxOpen)(tls, real, path, file, flags, outFlags)
	f := (*sqlite3.Tsqlite3_file)(pointer(file))
	if rc != sqlite3.SQLITE_OK || flags&sqlite3.SQLITE_OPEN_WAL == 0 || f.FpMethods == 0 {
		return rc
	}
	w := (*walFile)(pointer(file + uintptr(v.FszOsFile)))
	*w = walFile{original: f.FpMethods}
	w.methods = *w.originals()
	w.methods.FxWrite = function(walWrite)
	w.methods.FxSync = function(walSync)
	w.methods.FxRead = function(walRead)
	w.methods.FxTruncate = function(walTruncate)
	w.methods.FxFileSize = function(walFileSize)
	w.methods.FxClose = function(walClose)
	f.FpMethods = file + uintptr(v.FszOsFile)
	return rc
}

// flush writes what was gathered.
func (w *walFile) flush(tls *libc.TLS, file uintptr) int32 {
	if w.n == 0 {
		return sqlite3.SQLITE_OK
	}
	n := w.n
	w.n = 0
	return as[ioFunc](w.originals().FxWrite)(tls, file, w.buffer, int32(n), w.offset)
}

func walWrite(tls *libc.TLS, file, buf uintptr, amount int32, offset int64) int32 {
	w := walOf(file)
	if w.buffer == 0 {
		w.buffer = libc.Xmalloc(tls, walBufferSize)
	}
	if w.n > 0 && (offset != w.offset+w.n || w.n+int64(amount) > walBufferSize) {
		if rc := w.flush(tls, file); rc != sqlite3.SQLITE_OK {
			return rc
		}
	}
	if w.buffer == 0 || amount > walBufferSize {
		return as[ioFunc](w.originals().FxWrite)(tls, file, buf, amount, offset)
	}
	if w.n == 0 {
		w.offset = offset
	}
	copy(unsafe.Slice((*byte)(pointer(w.buffer+uintptr(w.n))), amount), unsafe.Slice((*byte)(pointer(buf)), amount))
	w.n += int64(amount)
	return sqlite3.SQLITE_OK
}

func walSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	w := walOf(file)
	if rc := w.flush(tls, file); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return syncData(tls, file, w.originals(), flags)
}

func walRead(tls *libc.TLS, file, buf uintptr, amount int32, offset int64) int32 {
	w := walOf(file)
	if rc := w.flush(tls, file); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return as[ioFunc](w.originals().FxRead)(tls, file, buf, amount, offset)
}

func walTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	w := walOf(file)
	if rc := w.flush(tls, file); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return as[cutFunc](w.originals().FxTruncate)(tls, file, size)
}

func walFileSize(tls *libc.TLS, file, size uintptr) int32 {
	w := walOf(file)
	if rc := w.flush(tls, file); rc != sqlite3.SQLITE_OK {
		return rc
	}
	return as[sizeFunc](w.originals().FxFileSize)(tls, file, size)
}

func walClose(tls *libc.TLS, file uintptr) int32 {
	w := walOf(file)
	flushed := w.flush(tls, file)
	if w.buffer != 0 {
		libc.Xfree(tls, w.buffer)
		w.buffer = 0
	}
	rc := as[closeFunc](w.originals().FxClose)(tls, file)
	if flushed != sqlite3.SQLITE_OK {
		return flushed
	}
	return rc
}
