{{- define "gateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (default .Chart.Name .Values.nameOverride) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gateway.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{ include "gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: observability-hub
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gateway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "gateway.image" -}}
{{- with .Values.image -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* The configuration, with the place of the tokens where a Secret holds them. */}}
{{- define "gateway.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.tokens.secret -}}
{{- $extensions := get $config "extensions" | default dict -}}
{{- $tokens := get $extensions "tokens" | default dict -}}
{{- $_ := set $tokens "file" "/etc/obs-hub/tokens/tokens.json" -}}
{{- $_ := set $extensions "tokens" $tokens -}}
{{- $_ := set $config "extensions" $extensions -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Whether the store is a server, "true", or embedded in the pod, or none, "". */}}
{{- define "gateway.storeIsServer" -}}
{{- range $name, $settings := .Values.config.exporters -}}
{{- if and (regexMatch "^timescale(/|$)" $name) (get ($settings | default dict) "dsn") -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gateway.storeIsEmbedded" -}}
{{- range $name, $settings := .Values.config.exporters -}}
{{- if and (regexMatch "^timescale(/|$)" $name) (not (get ($settings | default dict) "dsn")) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* The port of a listener's endpoint, given as dict "settings" and "default". */}}
{{- define "gateway.port" -}}
{{- get (.settings | default dict) "endpoint" | default .default | splitList ":" | last -}}
{{- end -}}

{{/* The listeners that there are, as YAML: name: {port: number}, plus `tls` of the front. */}}
{{- define "gateway.listeners" -}}
{{- $otlp := get .Values.config.receivers "otlp" | default dict -}}
{{- $protocols := get $otlp "protocols" | default dict -}}
{{- if hasKey $protocols "grpc" }}
grpc: {port: {{ include "gateway.port" (dict "settings" $protocols.grpc "default" "0.0.0.0:4317") }}}
{{- end }}
{{- if hasKey $protocols "http" }}
http: {port: {{ include "gateway.port" (dict "settings" $protocols.http "default" "0.0.0.0:4318") }}}
{{- end }}
{{- $extensions := .Values.config.extensions | default dict }}
{{- if and (hasKey $extensions "api") (has "api" (.Values.config.service.extensions | default list)) }}
front: {port: {{ include "gateway.port" (dict "settings" $extensions.api "default" "0.0.0.0:8085") }}, tls: {{ hasKey ($extensions.api | default dict) "tls" }}}
{{- end }}
{{- end -}}

{{- define "gateway.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# A volume that is right already is left alone: PostgreSQL refuses data that its group may write.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "gateway.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "gateway.env" -}}
- {name: OBSHUB_CONFIG, value: /etc/obs-hub/hub.yaml}
- {name: OBSHUB_DATA_DIR, value: /var/lib/obs-hub}
{{- with .Values.openbao }}
{{- if .address }}
- {name: BAO_ADDR, value: {{ .address | quote }}}
- {name: BAO_KUBERNETES_ROLE, value: {{ .role | quote }}}
- {name: BAO_KUBERNETES_TOKEN_FILE, value: /var/run/secrets/openbao/token}
- {name: OBSHUB_BAO_MOUNT, value: {{ .mount | quote }}}
{{- if .namespace }}
- {name: BAO_NAMESPACE, value: {{ .namespace | quote }}}
{{- end }}
{{- if .caSecret }}
- {name: BAO_CACERT, value: /etc/obs-hub/openbao/ca.crt}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "gateway.volumeMounts" -}}
- {name: config, mountPath: /etc/obs-hub/hub.yaml, subPath: hub.yaml, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- range $name, $secret := .Values.secrets }}
{{- if $secret }}
- {name: secret-{{ $name }}, mountPath: /etc/obs-hub/secrets/{{ $name }}, readOnly: true}
{{- end }}
{{- end }}
{{- if .Values.tokens.secret }}
- {name: tokens, mountPath: /etc/obs-hub/tokens, readOnly: true}
{{- end }}
{{- if .Values.openbao.address }}
- {name: openbao-token, mountPath: /var/run/secrets/openbao, readOnly: true}
{{- if .Values.openbao.caSecret }}
- {name: openbao-ca, mountPath: /etc/obs-hub/openbao, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* Given as dict "root" and "config", the name of the ConfigMap. */}}
{{- define "gateway.volumes" -}}
- {name: config, configMap: {name: {{ .config }}}}
- {name: tmp, emptyDir: {sizeLimit: 512Mi}}
{{- range $name, $secret := .root.Values.secrets }}
{{- if $secret }}
- {name: secret-{{ $name }}, secret: {secretName: {{ tpl $secret $.root }}, defaultMode: 0440}}
{{- end }}
{{- end }}
{{- with .root.Values.tokens.secret }}
- {name: tokens, secret: {secretName: {{ tpl . $.root }}, defaultMode: 0440}}
{{- end }}
{{- with .root.Values.openbao }}
{{- if .address }}
- name: openbao-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
          {{- with .audience }}
          audience: {{ . | quote }}
          {{- end }}
{{- if .caSecret }}
- {name: openbao-ca, secret: {secretName: {{ .caSecret }}, defaultMode: 0440}}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What values may not say together, told where `helm` shows it. */}}
{{- define "gateway.check" -}}
{{- $many := or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}
{{- if and $many (include "gateway.storeIsEmbedded" .) -}}
{{- fail "more than one pod needs a store that they share: set config.exporters.timescale.dsn, or replicas: 1 and autoscaling.enabled: false" -}}
{{- end -}}
{{- if and $many (not .Values.tokens.secret) (has "tokens" (.Values.config.service.extensions | default list)) -}}
{{- fail "more than one pod needs tokens that they share: set tokens.secret to a Secret with the key tokens.json (docs/kubernetes.md says how it is made)" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts names nobody: give [{host, paths: [{path, port}]}]" -}}
{{- end -}}
{{- if and .Values.gatewayApi.enabled (not .Values.gatewayApi.parentRefs) -}}
{{- fail "gatewayApi.parentRefs names no Gateway: give [{name, namespace}]" -}}
{{- end -}}
{{- if and $many (not .Values.persistence.enabled) -}}
{{- fail "pods that come and go need volumes for what waits to be sent: set persistence.enabled: true" -}}
{{- end -}}
{{- end -}}
