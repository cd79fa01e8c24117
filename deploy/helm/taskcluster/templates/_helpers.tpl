{{- define "taskcluster.selector" -}}
app.kubernetes.io/name: taskcluster
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "taskcluster.labels" -}}
{{ include "taskcluster.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "taskcluster.secret" -}}
{{- $name := .name -}}
- name: TASKCLUSTER_{{ $name | upper | replace "-" "_" }}
  valueFrom:
    secretKeyRef:
      name: {{ .root.Values.secretName }}
      key: {{ $name }}
{{- end }}
