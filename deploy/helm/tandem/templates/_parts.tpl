{{/* Pieces that several pods share. */}}

{{- define "tandem.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tandem.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What selects a process's pods: {root, process}. */}}
{{- define "tandem.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .process }}
{{- end }}

{{- define "tandem.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}{{ end }}
{{- end }}

{{- define "tandem.claim" -}}
{{- default (printf "%s-home" (include "tandem.name" .)) .Values.persistence.existingClaim }}
{{- end }}

{{/* Of every pod. No process of ours talks to Kubernetes. */}}
{{- define "tandem.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* Of every container. */}}
{{- define "tandem.container" -}}
image: {{ include "tandem.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "tandem.settings" -}}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{/* Where the record and the queue are. Not for the engines, which need neither. */}}
{{- define "tandem.backends" -}}
{{- range $name := list "TANDEM_DATABASE_URL" "TANDEM_REDIS_URL" }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.secret }}
      key: {{ $name }}
{{- end }}
{{- end }}

{{/* The home is the pod's own, sockets and logs in it; what is shared is put in from the claim. */}}
{{- define "tandem.shared" -}}
{{- range $folder := list "policies" "datasets" "iterations" }}
- name: shared
  mountPath: /var/lib/tandem/{{ $folder }}
  subPath: {{ $folder }}
{{- end }}
{{- end }}

{{- define "tandem.mounts" -}}
- name: home
  mountPath: /var/lib/tandem
- name: tmp
  mountPath: /tmp
{{- end }}

{{/* {root, sizes}: sizes has tmpSize and sharedMemorySize for pods that run PyTorch. */}}
{{- define "tandem.volumes" -}}
- name: home
  emptyDir:
    sizeLimit: 1Gi
- name: tmp
  emptyDir:
    sizeLimit: {{ .sizes.tmpSize | default "256Mi" }}
{{- with .sizes.sharedMemorySize }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ . }}
{{- end }}
{{- end }}
