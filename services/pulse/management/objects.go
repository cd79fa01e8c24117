package management

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Tags are the tags of a user. RabbitMQ writes them as a list, and before 3.9 as
// one text.
type Tags []string

// UnmarshalJSON implements json.Unmarshaler.
func (t *Tags) UnmarshalJSON(text []byte) error {
	var list []string
	if json.Unmarshal(text, &list) != nil {
		var joined string
		if err := json.Unmarshal(text, &joined); err != nil {
			return err
		}
		list = strings.FieldsFunc(joined, func(r rune) bool { return r == ',' || r == ' ' })
	}
	*t = list
	return nil
}

// Has tells whether a tag is there.
func (t Tags) Has(tag string) bool { return slices.Contains(t, tag) }

// User is a user of the broker, known on all of its virtual hosts.
type User struct {
	Name string
	Tags Tags
}

// Permissions are the regular expressions of the names that a user may
// configure, write to and read from.
type Permissions struct {
	Configure string `json:"configure"`
	Write     string `json:"write"`
	Read      string `json:"read"`
}

// Queue is a queue. Messages is nil when the broker does not tell yet.
type Queue struct {
	Name     string
	Messages *int64
}

// Exchange is an exchange.
type Exchange struct{ Name string }

// Connection is a connection of a client. ConnectedAt is in milliseconds since
// 1970, and 0 while it is being made.
type Connection struct {
	Name        string
	User        string
	VHost       string `json:"vhost"`
	ConnectedAt int64  `json:"connected_at"`
}

// WhoAmI is the user as whom the client calls.
func (c *Client) WhoAmI(ctx context.Context) (u User, err error) {
	err = c.get(ctx, &u, "whoami")
	return u, err
}

// VHost looks whether there is a virtual host.
func (c *Client) VHost(ctx context.Context, name string) error {
	return c.get(ctx, new(struct{}), "vhosts", name)
}

// User is the user with a name.
func (c *Client) User(ctx context.Context, name string) (u User, err error) {
	err = c.get(ctx, &u, "users", name)
	return u, err
}

// PutUser makes a user or changes it. With an empty password it cannot log in.
func (c *Client) PutUser(ctx context.Context, name, password string, tags ...string) error {
	body := map[string]string{"tags": strings.Join(tags, ","), "password": password}
	if password == "" {
		delete(body, "password")
		body["password_hash"] = ""
	}
	return c.do(ctx, request{method: http.MethodPut, path: path("users", name), body: body, secret: password}, nil)
}

// DeleteUser deletes a user. Whether that ends its connections depends on the
// version of RabbitMQ.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	return c.delete(ctx, "users", name)
}

// PutPermissions lays down what a user may do on a virtual host.
func (c *Client) PutPermissions(ctx context.Context, vhost, user string, p Permissions) error {
	return c.do(ctx, request{method: http.MethodPut, path: path("permissions", vhost, user), body: p}, nil)
}

// Permissions are what a user may do on a virtual host.
func (c *Client) Permissions(ctx context.Context, vhost, user string) (p Permissions, err error) {
	err = c.get(ctx, &p, "permissions", vhost, user)
	return p, err
}

// UserVHosts are the virtual hosts on which a user has permissions.
func (c *Client) UserVHosts(ctx context.Context, user string) ([]string, error) {
	var list []struct{ VHost string }
	if err := c.get(ctx, &list, "users", user, "permissions"); err != nil {
		return nil, err
	}
	vhosts := make([]string, len(list))
	for i := range list {
		vhosts[i] = list[i].VHost
	}
	return vhosts, nil
}

// Users are the users whose names begin so.
func (c *Client) Users(ctx context.Context, prefix string) (List[User], error) {
	return list(ctx, c, path("users"), url.Values{"columns": {"name,tags"}}, prefix, func(u User) bool { return strings.HasPrefix(u.Name, prefix) })
}

// UserPermissions are what one user may do on a virtual host.
type UserPermissions struct {
	User string
	Permissions
}

// AllPermissions are those on a virtual host of users whose names begin so.
func (c *Client) AllPermissions(ctx context.Context, vhost, prefix string) (List[UserPermissions], error) {
	return list(ctx, c, path("vhosts", vhost, "permissions"), url.Values{}, "", func(p UserPermissions) bool { return strings.HasPrefix(p.User, prefix) })
}

// Queues are the queues of a virtual host whose names begin so.
func (c *Client) Queues(ctx context.Context, vhost, prefix string) (List[Queue], error) {
	// Statistics lag behind and may be switched off; the totals are there at once.
	query := url.Values{"disable_stats": {"true"}, "enable_queue_totals": {"true"}}
	return list(ctx, c, path("queues", vhost), query, prefix, func(q Queue) bool { return strings.HasPrefix(q.Name, prefix) })
}

// DeleteQueue deletes a queue with its messages.
func (c *Client) DeleteQueue(ctx context.Context, vhost, name string) error {
	return c.delete(ctx, "queues", vhost, name)
}

// Exchanges are the exchanges of a virtual host whose names begin so.
func (c *Client) Exchanges(ctx context.Context, vhost, prefix string) (List[Exchange], error) {
	return list(ctx, c, path("exchanges", vhost), url.Values{"columns": {"name"}}, prefix, func(x Exchange) bool { return strings.HasPrefix(x.Name, prefix) })
}

// DeleteExchange deletes an exchange.
func (c *Client) DeleteExchange(ctx context.Context, vhost, name string) error {
	return c.delete(ctx, "exchanges", vhost, name)
}

// Connections are the connections to a virtual host of users whose names begin so.
func (c *Client) Connections(ctx context.Context, vhost, prefix string) (List[Connection], error) {
	query := url.Values{"columns": {"name,user,vhost,connected_at"}}
	return list(ctx, c, path("connections"), query, "", func(x Connection) bool {
		return x.VHost == vhost && strings.HasPrefix(x.User, prefix)
	})
}

// CloseConnection ends a connection; its client is told the reason.
func (c *Client) CloseConnection(ctx context.Context, name, reason string) error {
	return c.do(ctx, request{method: http.MethodDelete, path: path("connections", name), reason: reason}, nil)
}

// List is what a broker has of something.
type List[T any] struct {
	Items []T
	Cut   bool // there are more than MaxItems
}

// pageSize is the most that the API gives.
const pageSize = 500

// list reads page by page what has a name that begins with prefix, and keeps
// what fits. Some lists come whole, whatever is asked for.
func list[T any](ctx context.Context, c *Client, path string, query url.Values, prefix string, fits func(T) bool) (all List[T], err error) {
	query.Set("page_size", strconv.Itoa(pageSize))
	if prefix != "" {
		query.Set("name", "^"+regexp.QuoteMeta(prefix))
		query.Set("use_regex", "true")
	}
	for page, pages := 1, 1; page <= pages; page++ {
		query.Set("page", strconv.Itoa(page))
		err := c.do(ctx, request{method: http.MethodGet, path: path, query: query}, func(r io.Reader) (err error) {
			pages, err = readPage(r, func(item T) bool {
				if !fits(item) {
					return true
				}
				if all.Cut = len(all.Items) == c.maxItems; all.Cut {
					return false
				}
				all.Items = append(all.Items, item)
				return true
			})
			if errors.Is(err, errEnough) {
				err = nil
			}
			return err
		})
		var r *Refusal
		if page > 1 && errors.As(err, &r) && r.Status == http.StatusBadRequest {
			return all, nil // there are fewer pages by now
		}
		if err != nil || all.Cut {
			return all, err
		}
		if page*pageSize > 10*c.maxItems { // of which few fitted
			all.Cut = true
			return all, nil
		}
	}
	return all, nil
}

// errEnough ends the reading of a list that is too long.
var errEnough = errors.New("enough was read")

// readPage hands the items of a page, or of a list, to add until that has enough,
// and returns the number of pages.
func readPage[T any](r io.Reader, add func(T) bool) (pages int, err error) {
	d := json.NewDecoder(r)
	first, err := d.Token()
	if err != nil {
		return 0, err
	}
	items := func() error {
		for d.More() {
			var item T
			if err := d.Decode(&item); err != nil {
				return err
			}
			if !add(item) {
				return errEnough
			}
		}
		_, err := d.Token()
		return err
	}
	switch first {
	case json.Delim('['):
		return 1, items()
	case json.Delim('{'):
	default:
		return 0, fmt.Errorf("a list begins with %v", first)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return 0, err
		}
		switch key {
		case "page_count":
			err = d.Decode(&pages)
		case "items":
			var begin json.Token
			if begin, err = d.Token(); err == nil && begin != json.Delim('[') {
				err = fmt.Errorf("its items begin with %v", begin)
			}
			if err == nil {
				err = items()
			}
		default:
			err = d.Decode(new(json.RawMessage))
		}
		if err != nil {
			return 0, err
		}
	}
	return pages, nil
}
