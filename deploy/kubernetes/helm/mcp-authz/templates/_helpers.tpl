{{- define "mcp-authz.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default "mcp-authz" .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mcp-authz.selector" -}}
app.kubernetes.io/name: {{ default "mcp-authz" .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mcp-authz.labels" -}}
{{ include "mcp-authz.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "mcp-authz.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "mcp-authz.policyConfigMap" -}}
{{- if .Values.policy.existingConfigMap -}}
{{ .Values.policy.existingConfigMap }}
{{- else -}}
{{- if not .Values.policy.files -}}
{{- required "no policy: give policy.files or policy.existingConfigMap" "" -}}
{{- end -}}
{{ include "mcp-authz.fullname" . }}-policy
{{- end -}}
{{- end -}}

{{- /* What the Deployment and the sidecar have in common. */ -}}
{{- define "mcp-authz.args" -}}
# For scrapes. Authorizer (check and tail) answers loopback only, unless adminRemote
# is set.
- --admin=0.0.0.0:9002
{{- if .Values.adminRemote }}
- --admin-remote
{{- end }}
- --log-format={{ .Values.logFormat }}
- --log-allows={{ .Values.logAllows }}
{{- with .Values.otlp }}
- --otlp={{ . }}
{{- end }}
{{- with .Values.threads }}
- --threads={{ . }}
{{- end }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mcp-authz.env" -}}
{{- if or .Values.logFilter .Values.extraEnv }}
env:
{{- with .Values.logFilter }}
- name: RUST_LOG
  value: {{ . | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "mcp-authz.containerSecurityContext" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}
