package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
)

// A deployment that knows one task and no other.
func deployment(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path != "/api/queue/v1/task/VQ6EAOKbQdSnFkRmVUQAAA" {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"code":"ResourceNotFound","message":"no such task"}`)
		return
	}
	var task queue.CreateTaskRequest
	if err := json.NewDecoder(r.Body).Decode(&task); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, `{"status":{"taskId":"VQ6EAOKbQdSnFkRmVUQAAA","taskQueueId":%q,"state":"pending"}}`, task.TaskQueueID)
}

func Example() {
	q, err := queue.New(client.Config{
		RootURL:     "https://tc.example.com",
		Credentials: client.Credentials{ClientID: "me", AccessToken: "my-access-token"},
		Transport:   client.InProcess(http.HandlerFunc(deployment)), // leave out to use the network
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer q.Close()

	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	reply, err := q.CreateTask(context.Background(), "VQ6EAOKbQdSnFkRmVUQAAA", &queue.CreateTaskRequest{
		TaskQueueID: "local/native",
		Created:     client.At(created),
		Deadline:    client.At(created.Add(time.Hour)),
		Metadata:    queue.TaskMetadata{Name: "example", Description: "", Owner: "me@example.com", Source: "https://example.com"},
		Payload:     json.RawMessage(`{"command":[["echo","hello"]],"maxRunTime":60}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reply.Status.TaskQueueID, reply.Status.State)

	_, err = q.Status(context.Background(), "fN1SbArXTPSVFNUvaOlinQ")
	fmt.Println(client.IsNotFound(err), err)
	// Output:
	// local/native pending
	// true queue.status: 404 ResourceNotFound: no such task
}
