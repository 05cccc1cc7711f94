{{- /*
The native sidecar for Pods of your own chart (Kubernetes 1.29 or newer). In Chart.yaml:

  dependencies:
  - {name: mcp-authz, version: 0.1.0, repository: …}

in values.yaml:

  mcp-authz:
    deployment: {enabled: false}
    policy: {files: {policy.yaml: …}}

and in the Pod's spec:

  initContainers:
  {{- include "mcp-authz.sidecar" (index .Subcharts "mcp-authz") | nindent 6 }}
  containers:
  - name: envoy
    volumeMounts:
    - {name: mcp-authz-socket, mountPath: /run/mcp-authz, readOnly: true}
  volumes:
  {{- include "mcp-authz.sidecar.volumes" (index .Subcharts "mcp-authz") | nindent 6 }}

Envoy's cluster is the socket /run/mcp-authz/mcp-authz.sock.
*/ -}}
{{- define "mcp-authz.sidecar" -}}
- name: mcp-authz
  image: {{ include "mcp-authz.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args:
  - serve
  - --policy=/etc/mcp-authz
  - --listen=unix:/run/mcp-authz/mcp-authz.sock
  {{- include "mcp-authz.args" . | nindent 2 }}
  {{- with include "mcp-authz.env" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  ports:
  - {name: admin, containerPort: 9002}
  # Over the socket that Envoy uses, which the kubelet cannot reach; and not over the admin
  # port, which others can keep busy. Envoy starts when the first has succeeded.
  startupProbe:
    exec: {command: [/mcp-authz, health, "--server=unix:/run/mcp-authz/mcp-authz.sock"]}
    periodSeconds: 1
    timeoutSeconds: 3
    failureThreshold: 60
  readinessProbe:
    exec: {command: [/mcp-authz, health, "--server=unix:/run/mcp-authz/mcp-authz.sock"]}
    periodSeconds: 5
    timeoutSeconds: 3
  livenessProbe:
    exec: {command: [/mcp-authz, health, "--server=unix:/run/mcp-authz/mcp-authz.sock"]}
    periodSeconds: 10
    timeoutSeconds: 3
  resources:
    {{- toYaml .Values.sidecar.resources | nindent 4 }}
  {{- include "mcp-authz.containerSecurityContext" . | nindent 2 }}
  volumeMounts:
  - {name: mcp-authz-socket, mountPath: /run/mcp-authz}
  # The directory, not a subPath: a subPath never sees an update.
  - {name: mcp-authz-policy, mountPath: /etc/mcp-authz, readOnly: true}
{{- end -}}

{{- define "mcp-authz.sidecar.volumes" -}}
- name: mcp-authz-socket
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: mcp-authz-policy
  configMap: {name: {{ include "mcp-authz.policyConfigMap" . | quote }}}
{{- end -}}
