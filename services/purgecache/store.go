package purgecache

import (
	"embed"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the tables of this service.
func Migrations() store.Migrations { return store.Migrations{Component: "purge-cache", FS: migrations} }

var stmt = struct {
	ping, renew, count, insert, ofPool, list, expire *store.Stmt
}{
	ping:  store.SQL(`SELECT 1`),
	renew: store.SQL(`UPDATE purge_requests SET before_time = ?, expires = ? WHERE worker_pool_id = ? AND cache_name = ?`),
	count: store.SQL(`SELECT COUNT(*) FROM (SELECT id FROM purge_requests WHERE worker_pool_id = ? LIMIT ?) AS open`),
	// Another process may have been faster than renew and this.
	insert: store.SQL(`INSERT INTO purge_requests (worker_pool_id, cache_name, before_time, expires) VALUES (?, ?, ?, ?)
		ON CONFLICT (worker_pool_id, cache_name) DO UPDATE SET before_time = excluded.before_time, expires = excluded.expires`),
	ofPool: store.SQL(`SELECT cache_name, before_time FROM purge_requests WHERE worker_pool_id = ? ORDER BY id`),
	list: store.SQL(`SELECT worker_pool_id, cache_name, before_time FROM purge_requests
		WHERE (worker_pool_id, cache_name) > (?, ?) ORDER BY worker_pool_id, cache_name LIMIT ?`),
	expire: store.SQL(`DELETE FROM purge_requests WHERE id IN (
		SELECT id FROM purge_requests WHERE expires < ? ORDER BY expires LIMIT ?)`),
}

// record stores a request, or moves the one that there is forward. It returns
// false when the pool has as many as are allowed.
func record(tx *store.Tx, pool, name string, now clock.Time, max int) (bool, error) {
	expires := now.Add(Lifetime)
	n, err := tx.Exec(stmt.renew, now, expires, pool, name)
	if err != nil || n > 0 {
		return true, err
	}
	if err := tx.Row(stmt.count, pool, max).Scan(&n); err != nil || n >= int64(max) {
		return false, err
	}
	_, err = tx.Exec(stmt.insert, pool, name, now, expires)
	return true, err
}

// request is one stored request.
type request struct {
	pool, name string
	before     clock.Time
}

func readPool(tx *store.Tx, pool string) (all []request, err error) {
	rows := tx.Query(stmt.ofPool, pool)
	defer rows.Close()
	for rows.Next() {
		r := request{pool: pool}
		if err := rows.Scan(&r.name, &r.before); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// readPage reads up to limit requests behind that of a pool and name.
func readPage(tx *store.Tx, pool, name string, limit int) (all []request, err error) {
	rows := tx.Query(stmt.list, pool, name, limit)
	defer rows.Close()
	for rows.Next() {
		var r request
		if err := rows.Scan(&r.pool, &r.name, &r.before); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}
