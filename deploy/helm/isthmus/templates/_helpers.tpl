{{/* Names and fields that several templates share. */}}

{{/* The namespace. It is part of the identities by which the mesh knows its own parts, and so of no choice. */}}
{{- define "isthmus.namespace" -}}isthmus-system{{- end }}

{{/* What the schema cannot say, each with its remedy. Empty. */}}
{{- define "isthmus.check" -}}
{{- if ne .Release.Namespace "isthmus-system" }}
{{- fail (printf "the namespace is %s; the mesh's identities are of isthmus-system: add -n isthmus-system --create-namespace" .Release.Namespace) }}
{{- end }}
{{- if not .Values.cluster.name }}
{{- fail "cluster.name is not set; name this cluster, unique in the mesh: --set cluster.name=us-east" }}
{{- end }}
{{- with .Values.federation.timing }}
{{- if or (ge (int .heartbeat) (int .electionMin)) (ge (int .electionMin) (int .electionMax)) }}
{{- fail "federation.timing: heartbeat must be below electionMin, and electionMin below electionMax" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The image, by digest where there is one. */}}
{{- define "isthmus.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* What selects a role's pods: never changes, since a Deployment's selector cannot. (root, component) */}}
{{- define "isthmus.selector" -}}
app.kubernetes.io/name: isthmus
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of an object of a role. (root, component) */}}
{{- define "isthmus.labels" -}}
{{ include "isthmus.selector" . }}
app.kubernetes.io/part-of: isthmus
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{/* Labels of an object of no role. */}}
{{- define "isthmus.commonLabels" -}}
app.kubernetes.io/name: isthmus
app.kubernetes.io/part-of: isthmus
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* What a role reads of the configuration: its pods are replaced when that changes, and no others. (root, component) */}}
{{- define "isthmus.configurationOf" -}}
{{- $all := include "isthmus.configuration" .root | fromYaml }}
{{- $keys := list "cluster" "mesh" (printf "%s.yaml" .component) }}
{{- if eq .component "control" }}{{ $keys = concat $keys (list "mesh.yaml" "image") }}{{ end }}
{{- range $keys }}{{ get $all . }}
{{ end }}
{{- end }}

{{/* Metadata of a role's pods. (root, component, values) */}}
{{- define "isthmus.podMetadata" -}}
labels:
  {{- include "isthmus.labels" . | nindent 2 }}
  # Nobody's sidecar, neither ours nor Istio's.
  sidecar.istio.io/inject: "false"
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  isthmus.dev/configuration: {{ include "isthmus.configurationOf" . | sha256sum | trunc 16 | quote }}
  {{- if .root.Values.metrics.prometheusAnnotations }}
  prometheus.io/scrape: "true"
  prometheus.io/port: "15020"
  prometheus.io/path: /metrics
  {{- end }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Where a role's pods run and as whom: what the Pod Security Standard `restricted` asks for. (root, component, values) */}}
{{- define "isthmus.pod" -}}
# Control alone has a token for the API server.
automountServiceAccountToken: {{ eq .component "control" }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 1337
  runAsGroup: 1337
  fsGroup: 1337
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Spreads a role's pods over zones and nodes; where there is only one of them they still run. (component) */}}
{{- define "isthmus.spread" -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "isthmus.selector" $ | nindent 8 }}
    # Counts the pods of one release alone while another one takes its place.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}

{{/* What every role's container has, but for its ports and volumes. (root, component, values) */}}
{{- define "isthmus.container" -}}
name: {{ .component }}
image: {{ include "isthmus.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .component }}, --config, /etc/isthmus/{{ .component }}.yaml]
env:
  - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: ISTHMUS_MESH, valueFrom: {configMapKeyRef: {name: isthmus, key: mesh}}}
  - {name: ISTHMUS_CLUSTER, valueFrom: {configMapKeyRef: {name: isthmus, key: cluster}}}
  {{- if eq .component "control" }}
  - {name: ISTHMUS_IMAGE, valueFrom: {configMapKeyRef: {name: isthmus, key: image}}}
  {{- end }}
  {{- if .root.Values.cluster.region }}
  - {name: ISTHMUS_REGION, value: {{ .root.Values.cluster.region | quote }}}
  {{- else }}
  - {name: ISTHMUS_REGION, valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/region']"}}}
  {{- end }}
  - {name: ISTHMUS_ZONE, valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
  {{- toYaml .values.resources | nindent 2 }}
# It lives when it answers at all: what it waits for is no reason to start it again.
startupProbe: {httpGet: {path: /healthz, port: health}, periodSeconds: 1, failureThreshold: 60}
livenessProbe: {httpGet: {path: /healthz, port: health}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
readinessProbe: {httpGet: {path: /healthz/ready, port: health}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 3}
{{- end }}

{{/* Ports of every role. */}}
{{- define "isthmus.ports" -}}
- {name: metrics, containerPort: 15020, protocol: TCP}
- {name: health, containerPort: 15021, protocol: TCP}
{{- end }}

{{/* The way a role comes by its identity: a token for our audience alone, and the roots it believes control by. */}}
{{- define "isthmus.identityMounts" -}}
- {name: isthmus-token, mountPath: /var/run/secrets/isthmus, readOnly: true}
- {name: isthmus-roots, mountPath: /var/run/isthmus/roots, readOnly: true}
{{- end }}
{{- define "isthmus.identityVolumes" -}}
- name: isthmus-token
  projected:
    # 0440, as a number that every reader of YAML understands alike.
    defaultMode: 288
    sources:
      - serviceAccountToken: {audience: isthmus.dev, path: token, expirationSeconds: 3600}
# Control writes it. Until then the pod waits.
- name: isthmus-roots
  configMap: {name: isthmus-roots}
{{- end }}

{{/* What the file of every role has under common. (root, enrolled) */}}
{{- define "isthmus.common" -}}
common:
  mesh: "${ISTHMUS_MESH}"
  cluster: "${ISTHMUS_CLUSTER}"
  locality: {region: "${ISTHMUS_REGION}", zone: "${ISTHMUS_ZONE}"}
  name: "${POD_NAME}"
  address: "${POD_IP}"
  # Operators reach it through the API server.
  admin: 127.0.0.1
  state_dir: /var/lib/isthmus
  log: {{ .root.Values.log | quote }}
  {{- if .enrolled }}
  enrolment:
    service_account_token: /var/run/secrets/isthmus/token
    roots: /var/run/isthmus/roots/roots.pem
    trust_domain: "${ISTHMUS_CLUSTER}.${ISTHMUS_MESH}"
    control: isthmus-control.isthmus-system.svc:15012
  {{- end }}
{{- end }}

{{/* host:port of the addresses that the operator gave and that carry a transport, as YAML. (root, transport) */}}
{{- define "isthmus.addresses" -}}
{{- $all := list }}
{{- range .root.Values.gateway.addresses }}
{{- if has $.transport (.transports | default (list "udp" "tcp")) }}
{{- $host := ternary (printf "[%s]" .host) .host (contains ":" .host) }}
{{- $all = append $all (printf "%s:%d" $host (int (.port | default 15443))) }}
{{- end }}
{{- end }}
{{- toJson $all }}
{{- end }}
