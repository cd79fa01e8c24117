package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"taskcluster/internal/schema"
)

func TestGoName(t *testing.T) {
	for in, want := range map[string]string{
		"runId": "RunID", "taskIds": "TaskIDs", "putUrl": "PutURL", "sourceIp": "SourceIP", "aws-s3-credentials-response": "AWSS3CredentialsResponse",
		"artifact_metadata": "ArtifactMetadata", "list-roles2-response": "ListRoles2Response", "taskQueueId": "TaskQueueID", "task": "Task",
		"poll-task-urls-response": "PollTaskURLsResponse", "storageType": "StorageType", "dsn": "DSN",
	} {
		if got := goName(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{"Runs": "Run", "Statuses": "Status", "Entries": "Entry", "History": "HistoryItem"} {
		if got := singular(in); got != want {
			t.Errorf("one of %s is %s, want %s", in, got, want)
		}
	}
}

func TestGoTypes(t *testing.T) {
	bundle, err := schema.Bundle(schema.Source{Service: "queue", FS: fstest.MapFS{
		"v1/part.yml": {Data: []byte("type: object\nproperties:\n  tags: {type: object, additionalProperties: {type: string}}\nrequired: [tags]")},
		"v1/all.yml": {Data: []byte(`
description: Has one of each.
type: object
properties:
  name: {type: string, description: What it is called.}
  when: {type: string, format: date-time}
  count: {type: integer}
  small: {type: integer, maximum: 9, default: 1}
  extra: {type: object}
  any: {}
  part: {$ref: 'part.json#'}
  tags: {$ref: 'part.json#/properties/tags'}
  runs: {type: array, items: {type: object, properties: {runId: {type: integer, maximum: 9}}, required: [runId]}}
  version: {enum: [1]}
  open: {type: object, properties: {known: {type: string}}, additionalProperties: true}
required: [name, runs, version]
`)},
		"v1/either.yml": {Data: []byte(`
oneOf:
  - {type: object, properties: {kind: {const: a}, x: {type: string}, z: {type: string}}, required: [kind, x]}
  - {type: object, properties: {kind: {const: b}, z: {type: boolean}}, required: [kind, z]}
`)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := goTypes("queue", "queue", bundle)
	if err != nil {
		t.Fatal(err)
	}
	flat := strings.Join(strings.Fields(string(got)), " ")
	for _, want := range []string{
		"package queue",
		"// All: Has one of each. type All struct { // What it is called. Name string `json:\"name\"` When clock.Time `json:\"when,omitempty\"`" +
			" Count *int64 `json:\"count,omitempty\"` Small int `json:\"small\"` Extra json.RawMessage `json:\"extra,omitzero\"`" +
			" Any json.RawMessage `json:\"any,omitzero\"` Part *Part `json:\"part,omitempty\"` Tags map[string]string `json:\"tags,omitzero\"`" +
			" Runs []AllRun `json:\"runs\"` Version int `json:\"version\"` Open map[string]json.RawMessage `json:\"open,omitzero\"` }",
		"type AllRun struct { RunID int `json:\"runId\"` }",
		"type Part struct { Tags map[string]string `json:\"tags\"` }",
		"type Either struct { Kind string `json:\"kind\"` X string `json:\"x,omitempty\"` Z json.RawMessage `json:\"z,omitzero\"` }",
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("missing:\n%s\nin\n%s", want, got)
		}
	}
}
