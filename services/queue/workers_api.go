package queue

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// Task queues and workers exist here because workers were seen; nobody
// creates them. Provisioners and worker types are views of task queues, kept
// for old clients.

const (
	workerColumns = `task_queue_id, worker_group, worker_id, recent_tasks, quarantine_until,
		quarantine_details, expires, first_claim, last_date_active`
	stability   = "experimental" // of all of them; there is no method to change it
	description = ""
)

// workerRecord is a row of queue_workers.
type workerRecord struct {
	key             workerKey
	recent          []TaskRun
	quarantineUntil clock.Time
	details         string
	expires         clock.Time
	firstClaim      clock.Time
	lastActive      clock.Time
}

func scanWorker(row scanner) (*workerRecord, error) {
	w := new(workerRecord)
	var recent string
	err := row.Scan(&w.key.queue, &w.key.group, &w.key.id, &recent, &w.quarantineUntil,
		&w.details, &w.expires, &w.firstClaim, &w.lastActive)
	w.recent = []TaskRun{}
	for ; len(recent) >= recentWidth; recent = recent[recentWidth:] {
		runID, _ := strconv.Atoi(recent[slugid.Length:recentWidth])
		w.recent = append(w.recent, TaskRun{TaskID: recent[:slugid.Length], RunID: runID})
	}
	return w, err
}

// visible tells whether a worker is shown: seen lately, or in quarantine.
func (w *workerRecord) visible(now clock.Time) bool {
	return w.expires > now || w.quarantineUntil > now
}

func (w *workerRecord) reply() *WorkerResponse {
	provisioner, workerType := splitQueue(w.key.queue)
	return &WorkerResponse{ProvisionerID: provisioner, WorkerType: workerType, TaskQueueID: w.key.queue,
		WorkerGroup: w.key.group, WorkerID: w.key.id, RecentTasks: w.recent, Expires: w.expires,
		FirstClaim: w.firstClaim, LastDateActive: w.lastActive, QuarantineUntil: w.quarantineUntil}
}

// keyOf gives the worker that the URL names.
func keyOf(c *api.Call) workerKey {
	return workerKey{queueOf(c), workerName{c.Param("workerGroup"), c.Param("workerId")}}
}

func queueOf(c *api.Call) string { return c.Param("provisionerId") + "/" + c.Param("workerType") }

func workerNotFound(k workerKey) error {
	provisioner, workerType := splitQueue(k.queue)
	return tcerr.New(tcerr.ResourceNotFound, "Worker with workerId `%s`, workerGroup `%s`, worker-type `%s` and provisionerId `%s` not found. Are you sure it was created?",
		k.id, k.group, workerType, provisioner)
}

func loadWorker(tx *store.Tx, k workerKey) (*workerRecord, error) {
	return scanWorker(tx.Row(stmt.worker, k.queue, k.group, k.id))
}

func (s *Service) getWorker(c *api.Call) (any, error) {
	k := keyOf(c)
	var w *workerRecord
	err := s.store.Read(c.Context, func(tx *store.Tx) (err error) {
		if w, err = loadWorker(tx, k); err != nil {
			return err
		}
		_, err = scanQueue(tx.Row(stmt.taskQueue, k.queue, clock.Time(0)))
		return err
	})
	if errors.Is(err, store.ErrNoRows) || err == nil && !w.visible(s.clock.Now()) {
		return nil, workerNotFound(k)
	}
	if err != nil {
		return nil, err
	}
	return w.reply(), nil
}

// listWorkers lists the workers of a task queue. Those that are not shown are
// left out of the page, which may therefore be short.
func (s *Service) listWorkers(c *api.Call) (any, error) {
	limit, token := c.Page()
	filter, filtered := c.Query("quarantined")
	after, err := strictToken(token)
	if err != nil {
		return nil, err
	}
	group, id, _ := strings.Cut(after, "/")
	now := s.clock.Now()
	out := &ListWorkersResponse{Workers: []ListWorkersResponseWorker{}}
	err = s.store.Read(c.Context, func(tx *store.Tx) error {
		rows := tx.Query(stmt.listWorkers, queueOf(c), group, id, limit+1)
		defer rows.Close()
		var last workerKey
		for n := 0; limit > 0 && rows.Next(); n++ {
			if n == limit {
				out.ContinuationToken = makeToken(last.group + "/" + last.id)
				return nil
			}
			w, err := scanWorker(rows)
			if err != nil {
				return err
			}
			last = w.key
			held := w.quarantineUntil > now
			if !w.visible(now) || filtered && held != (filter == "true") {
				continue
			}
			e := ListWorkersResponseWorker{WorkerGroup: w.key.group, WorkerID: w.key.id,
				FirstClaim: w.firstClaim, LastDateActive: w.lastActive}
			if n := len(w.recent); n > 0 {
				e.LatestTask = &w.recent[n-1]
			}
			if held {
				e.QuarantineUntil = w.quarantineUntil
			}
			out.Workers = append(out.Workers, e)
		}
		return rows.Err()
	})
	return out, err
}

// quarantineWorker holds a worker back from work, or, with a time in the past,
// lets it go.
func (s *Service) quarantineWorker(c *api.Call, in *QuarantineWorkerRequest) (any, error) {
	k := keyOf(c)
	info := in.QuarantineInfo
	if info == "" {
		info = "[unspecified]"
	}
	var w *workerRecord
	err := s.store.Write(c.Context, func(tx *store.Tx) (err error) {
		if w, err = loadWorker(tx, k); err != nil {
			return err
		}
		var details []WorkerResponseQuarantineDetail
		if err := json.Unmarshal([]byte(w.details), &details); err != nil {
			return err
		}
		now := tx.Now()
		w.quarantineUntil = in.QuarantineUntil
		w.expires = max(w.expires, now.Add(workerLife))
		text, err := json.Marshal(append(details, WorkerResponseQuarantineDetail{ClientID: c.ClientID(),
			UpdatedAt: now, QuarantineUntil: in.QuarantineUntil, QuarantineInfo: info}))
		if err != nil {
			return err
		}
		if _, err := tx.Exec(stmt.quarantineWorker, w.quarantineUntil, string(text), w.expires, w.expires,
			k.queue, k.group, k.id); err != nil {
			return err
		}
		signalQuarantine(tx, k, in.QuarantineUntil)
		c.Audit(tx)
		return nil
	})
	if errors.Is(err, store.ErrNoRows) {
		return nil, workerNotFound(k)
	}
	if err != nil {
		return nil, err
	}
	return w.reply(), nil
}

// declareWorker makes a worker known, or keeps it known longer.
func (s *Service) declareWorker(c *api.Call, in *UpdateWorkerRequest) (any, error) {
	k := keyOf(c)
	err := c.Authorize(map[string]any{"provisionerId": c.Param("provisionerId"), "workerType": c.Param("workerType"),
		"workerGroup": k.group, "workerId": k.id, "properties": []string{"expires"}})
	if err != nil {
		return nil, err
	}
	var w *workerRecord
	err = s.store.Write(c.Context, func(tx *store.Tx) error {
		if err := s.sightBatch(tx, []*sighting{{worker: k, expires: in.Expires}}); err != nil {
			return err
		}
		c.Audit(tx)
		w, err = loadWorker(tx, k)
		return err
	})
	if err != nil {
		return nil, err
	}
	return w.reply(), nil
}

func scanQueue(row scanner) (q ListTaskqueuesResponseTaskQueue, err error) {
	q.Stability, q.Description = stability, description
	return q, row.Scan(&q.TaskQueueID, &q.Expires, &q.LastDateActive)
}

func (s *Service) readQueue(c *api.Call, name string) (q ListTaskqueuesResponseTaskQueue, err error) {
	err = s.store.Read(c.Context, func(tx *store.Tx) error {
		q, err = scanQueue(tx.Row(stmt.taskQueue, name, s.clock.Now()))
		return err
	})
	return q, err
}

func (s *Service) getTaskQueue(c *api.Call) (any, error) {
	q, err := s.readQueue(c, c.Param("taskQueueId"))
	if errors.Is(err, store.ErrNoRows) {
		return nil, tcerr.New(tcerr.ResourceNotFound, "Task queue `%s` not found. Are you sure it exists?", c.Param("taskQueueId"))
	}
	return q, err
}

func (s *Service) getWorkerType(c *api.Call) (any, error) {
	q, err := s.readQueue(c, queueOf(c))
	if errors.Is(err, store.ErrNoRows) {
		return nil, tcerr.New(tcerr.ResourceNotFound, "Worker-type with workerType `%s` and provisionerId `%s` not found. Are you sure it was created?", c.Param("workerType"), c.Param("provisionerId"))
	}
	return WorkertypeResponse{WorkerType: c.Param("workerType"), ProvisionerID: c.Param("provisionerId"),
		TaskQueueID: q.TaskQueueID, Description: q.Description, Stability: q.Stability, Expires: q.Expires,
		LastDateActive: q.LastDateActive}, err
}

func (s *Service) listTaskQueues(c *api.Call) (any, error) {
	limit, token := c.Page()
	after, err := strictToken(token)
	if err != nil {
		return nil, err
	}
	out := &ListTaskqueuesResponse{TaskQueues: []ListTaskqueuesResponseTaskQueue{}}
	out.ContinuationToken, err = s.pageQueues(c, limit, func(q ListTaskqueuesResponseTaskQueue) { out.TaskQueues = append(out.TaskQueues, q) },
		stmt.listQueues, after, s.clock.Now(), limit+1)
	return out, err
}

func (s *Service) listWorkerTypes(c *api.Call) (any, error) {
	limit, token := c.Page()
	after, err := strictToken(token)
	if err != nil {
		return nil, err
	}
	p := c.Param("provisionerId")
	out := &ListWorkertypesResponse{WorkerTypes: []ListWorkertypesResponseWorkerType{}}
	out.ContinuationToken, err = s.pageQueues(c, limit, func(q ListTaskqueuesResponseTaskQueue) {
		_, workerType := splitQueue(q.TaskQueueID)
		out.WorkerTypes = append(out.WorkerTypes, ListWorkertypesResponseWorkerType{WorkerType: workerType, ProvisionerID: p,
			TaskQueueID: q.TaskQueueID, Stability: q.Stability, Description: q.Description, Expires: q.Expires, LastDateActive: q.LastDateActive})
	}, stmt.listQueuesOf, max(p+"/", after), p+"0", s.clock.Now(), limit+1)
	return out, err
}

// pageQueues hands the task queues of a page to add.
func (s *Service) pageQueues(c *api.Call, limit int, add func(ListTaskqueuesResponseTaskQueue), query *store.Stmt, args ...any) (token string, err error) {
	err = s.store.Read(c.Context, func(tx *store.Tx) error {
		rows := tx.Query(query, args...)
		defer rows.Close()
		last := ""
		for n := 0; limit > 0 && rows.Next(); n++ {
			if n == limit {
				token = makeToken(last)
				return nil
			}
			q, err := scanQueue(rows)
			if err != nil {
				return err
			}
			last = q.TaskQueueID
			add(q)
		}
		return rows.Err()
	})
	return token, err
}

func (s *Service) listProvisioners(c *api.Call) (any, error) {
	limit, token := c.Page()
	after, err := strictToken(token)
	if err != nil {
		return nil, err
	}
	out := &ListProvisionersResponse{Provisioners: []ListProvisionersResponseProvisioner{}}
	out.ContinuationToken, err = s.pageQueues(c, limit, func(q ListTaskqueuesResponseTaskQueue) {
		out.Provisioners = append(out.Provisioners, ListProvisionersResponseProvisioner{ProvisionerID: q.TaskQueueID,
			Stability: stability, Description: description, Expires: q.Expires, LastDateActive: q.LastDateActive})
	}, stmt.listProvisioners, s.clock.Now(), after, limit+1)
	return out, err
}

func (s *Service) getProvisioner(c *api.Call) (any, error) {
	p := c.Param("provisionerId")
	out := &ProvisionerResponse{ProvisionerID: p, Stability: stability, Description: description}
	var queues int64
	err := s.store.Read(c.Context, func(tx *store.Tx) error {
		return tx.Row(stmt.provisioner, p+"/", p+"0", s.clock.Now()).Scan(&queues, &out.Expires, &out.LastDateActive)
	})
	if err == nil && queues == 0 {
		return nil, tcerr.New(tcerr.ResourceNotFound, "Provisioner `%s` not found. Are you sure it was created?", p)
	}
	return out, err
}
