package auth

import (
	"context"

	"taskcluster/internal/store"
)

// seedRole is a role that a new deployment starts with.
type seedRole struct {
	id, description string
	scopes          []string
}

// seeds are the roles with which a person can work at once. Each is made once
// only: whoever changes or deletes it has the last word.
func seeds() []seedRole {
	return []seedRole{{
		id: "anonymous",
		description: "What everybody may do, with or without credentials: read what is public about tasks, artifacts, the index and workers.\n\n" +
			"This role was made when the deployment was started for the first time. Change it as you see fit.",
		scopes: []string{
			"auth:current-scopes",
			"auth:explain-scopes",
			"events:listen:exchange/taskcluster-queue/v1/*",
			"index:find-task:*",
			"index:list-namespaces:*",
			"index:list-tasks:*",
			"queue:claimed-count:*",
			"queue:claimed-list:*",
			"queue:get-artifact:public/*",
			"queue:get-provisioner:*",
			"queue:get-task-queue:*",
			"queue:get-task:*",
			"queue:get-worker-type:*",
			"queue:get-worker:*",
			"queue:list-artifacts:*",
			"queue:list-dependent-tasks:*",
			"queue:list-provisioners",
			"queue:list-task-group:*",
			"queue:list-task-queues",
			"queue:list-worker-types:*",
			"queue:list-workers:*",
			"queue:pending-count:*",
			"queue:pending-list:*",
			"queue:status:*",
		},
	}}
}

// seedRoles makes the first roles that were never made before.
func (s *Service) seedRoles(ctx context.Context) error {
	for _, seed := range seeds() {
		mark := "role " + seed.id
		var done bool
		err := s.store.Read(ctx, func(tx *store.Tx) (err error) {
			done, err = marked(tx, mark)
			return err
		})
		if err != nil {
			return err
		}
		if done {
			continue
		}
		_, _, err = s.changeRoles(ctx, nil, func(now *roleSet) (roleChange, error) {
			if old := now.find(seed.id); old != nil {
				return roleChange{role: old, mark: mark}, nil
			}
			t := s.clock.Now()
			r := &role{id: seed.id, description: seed.description, scopes: inOrder(seed.scopes), created: t, lastModified: t}
			return roleChange{role: r, action: "created", exchange: roleCreated, mark: mark}, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
