package auth

import (
	"encoding/json"
	"strings"

	"taskcluster/internal/api"
)

// authenticateHawk checks the signature of a request that another service got.
// The hash of its payload is for that service to compare.
func (s *Service) authenticateHawk(c *api.Call, in *AuthenticateHawkRequest) (any, error) {
	result := s.Authenticate(c.Context, api.AuthRequest{
		Method:        strings.ToUpper(in.Method),
		Resource:      in.Resource,
		Host:          in.Host,
		Port:          in.Port,
		Authorization: in.Authorization,
		SourceIP:      in.SourceIP,
	})
	if result.Err != nil {
		return nil, result.Err
	}
	if result.Status == api.AuthFailed {
		return AuthenticateHawkResponse{Status: result.Status, Message: result.Message}, nil
	}
	reply := AuthenticateHawkResponse{Status: result.Status, Scheme: "none", Scopes: result.Scopes.Slice(), Expires: result.Expires}
	if result.Status == api.AuthSuccess {
		reply.Scheme, reply.ClientID = "hawk", result.ClientID
		if result.Hash != "" {
			hash, err := json.Marshal(result.Hash)
			if err != nil {
				return nil, err
			}
			reply.Hash = hash
		}
	}
	return reply, nil
}
