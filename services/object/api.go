package object

import (
	"net/http"

	"taskcluster/internal/api"
	"taskcluster/internal/scopes"
	"taskcluster/internal/store"
	"taskcluster/services/object/schemas"
)

// API is the published API of the service.
func (s *Service) API() api.Service {
	return api.Service{
		Name:    "object",
		Version: "v1",
		Title:   "Object Service",
		Description: "The object service keeps named data that never changes once it is uploaded, until it expires. " +
			"Uploading and downloading are agreed upon in two steps: the caller says which methods it knows, the service " +
			"picks one and says where to send or fetch the data.",
		Methods: append(s.methods(), api.HeartbeatMethod(s.heartbeat)),
		Schemas: schemas.Source(),
	}
}

// heartbeat fails when the database cannot be read.
func (s *Service) heartbeat(c *api.Call) error {
	return s.store.Read(c.Context, func(tx *store.Tx) error {
		_, err := scan(tx.Row(stmt.get, ""))
		if err == store.ErrNoRows {
			return nil
		}
		return err
	})
}

var nameParam = map[string]*api.Pattern{"name": api.Regexp(`^[\x20-\x7e]+$`)}

func (s *Service) methods() []api.Method {
	upload := scopes.MustParseTemplate(`"object:upload:<projectId>:<name>"`)
	download := scopes.MustParseTemplate(`"object:download:<name>"`)
	return []api.Method{
		{
			Name: "createUpload", Title: "Begin upload of a new object", Category: "Upload", Stability: api.Stable,
			Description: "Creates an object that nobody sees until finishUpload, and picks the first of the proposed methods that " +
				"its backend has: `dataInline`, whose data is stored at once, then `putUrl`, whose answer has a URL and the headers to " +
				"PUT the data with. The call may be repeated with the same uploadId, expiration and project, for instance to propose " +
				"other methods or to add hashes. The upload has to be finished within a day. Slashes in the name are written %2F here.",
			Method: http.MethodPut, Route: "/upload/:name", Params: nameParam,
			Input: "v1/create-upload-request.json#", Output: "v1/create-upload-response.json#",
			Scopes: upload, Handle: api.Handle(s.createUpload),
		},
		{
			Name: "finishUpload", Title: "Mark an upload as complete.", Category: "Upload", Stability: api.Stable,
			Description: "Ends an upload: from then on the object can be downloaded and cannot change. Hashes may still be given here, " +
				"and should be, because clients check what they download by them. Finishing what is finished succeeds if it says nothing new.",
			Method: http.MethodPost, Route: "/finish-upload/:name", Params: nameParam,
			Input:  "v1/finish-upload-request.json#",
			Scopes: upload, Handle: api.Handle(s.finishUpload),
		},
		{
			Name: "startDownload", Title: "Download object data", Category: "Download", Stability: api.Stable,
			Description: "Picks one of the methods that the caller accepts, the more capable one first: `getUrl`, which comes with " +
				"hashes and is asked for again when it has expired, or `simple`, which is no more than a URL.",
			Method: http.MethodPut, Route: "/start-download/{*name}", Params: nameParam,
			Input: "v1/download-object-request.json#", Output: "v1/download-object-response.json#",
			Scopes: download, Handle: api.Handle(s.startDownload),
		},
		{
			Name: "object", Title: "Get an object's metadata", Category: "Objects", Stability: api.Stable,
			Description: "What is known of an object, without its data.",
			Method:      http.MethodGet, Route: "/metadata/{*name}", Params: nameParam, Output: "v1/get-object-response.json#",
			Scopes: download, Handle: s.object,
		},
		{
			Name: "download", Title: "Get an object's data", Category: "Download", Stability: api.Stable,
			Description: "Redirects to the data of an object, as a simple download does, for clients that only follow addresses: a signed URL of this method can be given away.",
			Method:      http.MethodGet, Route: "/download/{*name}", Params: nameParam,
			Scopes: download, Handle: s.download,
		},
	}
}
