package auth

import (
	"fmt"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// The kinds of entities that this service writes history of.
const (
	entityClient = "client"
	entityRole   = "role"
)

// ownClientID is who did what the service does by itself.
const ownClientID = "static/taskcluster/auth"

// audit notes in an entity's history what the call does, in the same
// transaction.
func (s *Service) audit(tx *store.Tx, c *api.Call, entityType, entityID, action string) error {
	c.Audit(tx)
	return writeAudit(tx, entityType, entityID, c.ClientID(), action)
}

func writeAudit(tx *store.Tx, entityType, entityID, clientID, action string) error {
	_, err := tx.Exec(stmt.insertAudit, entityType, entityID, clientID, action, tx.Now())
	return err
}

// getEntityHistory lists what was done to an entity.
func (s *Service) getEntityHistory(c *api.Call) (any, error) {
	entityType, entityID := c.Param("entityType"), c.Param("entityId")
	return s.history(c, "entity "+entityType+" "+entityID, func(tx *store.Tx, created clock.Time, id int64, limit int) *store.Rows {
		return tx.Query(stmt.entityHistory, entityType, entityID, created, id, limit)
	})
}

// listAuditHistory lists what a client did.
func (s *Service) listAuditHistory(c *api.Call) (any, error) {
	clientID := c.Param("clientId")
	return s.history(c, "client "+clientID, func(tx *store.Tx, created clock.Time, id int64, limit int) *store.Rows {
		return tx.Query(stmt.clientHistory, clientID, created, id, limit)
	})
}

// history answers with one page of what query finds behind a row.
func (s *Service) history(c *api.Call, listing string, query func(tx *store.Tx, created clock.Time, id int64, limit int) *store.Rows) (any, error) {
	limit, token := c.Page()
	key, _, err := pageKey(listing, token)
	if err != nil {
		return nil, err
	}
	var created clock.Time
	var id int64
	if key != "" {
		if _, err := fmt.Sscanf(key, "%d %d", &created, &id); err != nil {
			return nil, errBadToken()
		}
	}
	reply := GetEntityHistoryResponse{AuditHistory: []GetEntityHistoryResponseAuditHistoryItem{}}
	if limit == 0 {
		return reply, nil
	}
	var rows []auditRow
	err = s.store.Read(c.Context, func(tx *store.Tx) (err error) {
		rows, err = readAudit(query(tx, created, id, limit+1))
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		reply.ContinuationToken = pageToken(listing, fmt.Sprintf("%d %d", int64(last.created), last.id))
	}
	for _, r := range rows {
		reply.AuditHistory = append(reply.AuditHistory, GetEntityHistoryResponseAuditHistoryItem{
			ClientID: r.clientID, ActionType: r.action, Created: r.created, EntityID: r.entityID, EntityType: r.entityType,
		})
	}
	return reply, nil
}
