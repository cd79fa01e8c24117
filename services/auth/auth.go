// Package auth is the service that knows who may do what: clients and their
// access tokens, roles, and whether a request was signed by whom it says.
//
// What it promises:
//
//   - A change of a client or a role is in force, for requests that arrive at
//     this process, before its caller is answered; for those at other processes
//     some milliseconds later, and store.Delay later at most: a process that
//     does not hear of changes asks the database about each request.
//   - A change, its line of history and its message are one transaction.
//   - The set of roles never has a cycle, whoever writes at the same time.
//   - Roles cannot be made to grow a holder's scopes without bound; if stored
//     ones do, their holders are refused and everybody else is served.
//   - Access tokens are encrypted where they are stored, and reach nobody but
//     the caller of createClient and resetAccessToken.
//
// Every request to every service passes Authenticate, so that works on
// memory: the clients in use, the compiled roles, and certificates that were
// verified before.
package auth

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/events"
	"taskcluster/internal/secret"
	"taskcluster/internal/store"
	"taskcluster/internal/store/keyring"
	"taskcluster/services/auth/broker"
)

// Config is what the service is built from.
type Config struct {
	Store *store.Store // opened with Migrations
	Log   *events.Log
	Keys  *keyring.Keyring // encrypts access tokens
	Clock clock.Clock      // the machine's clock when nil
	// Logger gets no secrets; nothing is logged when nil.
	Logger *slog.Logger

	// StaticClients are the clients that configuration makes, and nobody else
	// may change; see StaticClient.
	StaticClients []StaticClient
	// AuditRetention is for how long history is kept; 30 days when zero.
	AuditRetention time.Duration
	// MaxClients and MaxCertificates bound what is kept in memory; 20,000
	// clients and 4,096 certificates when zero. A certificate takes up to 10 KB.
	MaxClients, MaxCertificates int
	// WebsocktunnelSecret is shared with the websocktunnel service; without one
	// websocktunnelToken answers with an error.
	WebsocktunnelSecret string
	// Brokers give access to other systems; those that it leaves out are answered
	// with errors.
	Brokers broker.Settings
}

// Service is the auth service. It implements api.Authenticator.
type Service struct {
	store     *store.Store
	log       *events.Log
	keys      *keyring.Keyring
	clock     clock.Clock
	logger    *slog.Logger
	retention time.Duration

	tunnelSecret secret.Text
	brokers      *broker.Brokers
	maxListing   int // smaller in tests

	realm   realm
	clients *cache[string, *client]

	roles      atomic.Pointer[roleSet]
	rolesHeard atomic.Int64  // how often another process was heard to have changed them
	rolesRead  atomic.Int64  // of these, those that are in roles
	rolesMoved chan struct{} // holds a token when rolesHeard has grown
	rolesTurn  chan struct{} // held while they are read: one reads for all who wait
	roleWrites sync.Mutex    // one change of roles at a time in this process

	used chan usage
}

// New builds the service. It reads the roles, brings the stored static clients
// in line with the configuration, and gives a new deployment its first roles.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Log == nil || cfg.Keys == nil {
		return nil, errors.New("auth: a store, an event log and a key ring are needed")
	}
	s := &Service{
		store:        cfg.Store,
		log:          cfg.Log,
		keys:         cfg.Keys,
		clock:        cfg.Clock,
		logger:       cfg.Logger,
		retention:    cfg.AuditRetention,
		tunnelSecret: secret.Text(cfg.WebsocktunnelSecret),
		maxListing:   maxListing,
		used:         make(chan usage, maxUsages),
		rolesMoved:   make(chan struct{}, 1),
		rolesTurn:    make(chan struct{}, 1),
	}
	if s.clock == nil {
		s.clock = clock.Real{}
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.retention == 0 {
		s.retention = 30 * 24 * time.Hour
	}
	if cfg.MaxClients <= 0 {
		cfg.MaxClients = 20_000
	}
	if cfg.MaxCertificates <= 0 {
		cfg.MaxCertificates = 4_096
	}
	var err error
	if s.brokers, err = broker.New(cfg.Brokers, s.clock); err != nil {
		return nil, err
	}
	s.clients = newCache[string, *client](cfg.MaxClients)
	s.realm = realm{
		clock:  s.clock,
		log:    s.logger,
		client: s.cachedClient,
		roles:  s.rolesInForce,
		grants: newCache[grantKey, *grant](cfg.MaxCertificates),
		used:   s.noteUse,
	}
	static, err := checkStatic(cfg.StaticClients)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	s.watch()
	if err := s.loadRoles(ctx); err != nil {
		return nil, err
	}
	if err := s.syncStatic(ctx, static); err != nil {
		return nil, err
	}
	if err := s.seedRoles(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

var _ api.Authenticator = (*Service)(nil)
