{{/* Given as dict "root" and "component": what an object is selected by, and all its labels. */}}
{{- define "hub.selectorLabels" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "hub.labels" -}}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{ include "hub.selectorLabels" . }}
app.kubernetes.io/part-of: observability-hub
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- define "hub.image" -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}

{{/* The hub's own image, as the gateway has it. */}}
{{- define "hub.ownImage" -}}
{{- $image := .Values.gateway.image | default dict -}}
{{- if $image.registry }}{{ $image.registry }}/{{ end }}{{ $image.repository | default "obs-hub" }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end -}}

{{- define "hub.postgresHost" -}}
obs-hub-postgres{{ if .Values.postgres.cloudnativepg.enabled }}-rw{{ end }}
{{- end -}}

{{/* Of every pod here, given as dict "root", "user" and, where the volume is to be the user's, "fsGroup". */}}
{{- define "hub.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- include "hub.placement" . }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "hub.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if not .everywhere }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "hub.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* A claim of its own for a volume that stays when the hub is uninstalled, given as dict "root", "component", "settings". */}}
{{- define "hub.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: obs-hub-{{ .component }}
  labels:
    {{- include "hub.labels" . | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
spec:
  {{- include "hub.claimSpec" .settings | nindent 2 }}
{{- end -}}

{{- define "hub.claimSpec" -}}
accessModes: [ReadWriteOnce]
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end -}}

{{/* A key of a Secret that is there already, or what is to become of it, given as list: root, name, key, else. */}}
{{- define "hub.kept" -}}
{{- $root := index . 0 -}}
{{- $secret := lookup "v1" "Secret" $root.Release.Namespace (index . 1) -}}
{{- $data := get ($secret | default dict) "data" | default dict -}}
{{- with get $data (index . 2) }}{{ b64dec . }}{{ else }}{{ index . 3 }}{{ end -}}
{{- end -}}
