{{- define "certify.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "certify.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "certify.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "certify.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "certify.gateway" -}}{{ include "certify.set" . }}-gateway{{- end -}}
{{- define "certify.triton" -}}{{ include "certify.set" . }}-triton{{- end -}}

{{/* A number as it is written: Helm's own way turns 10485760 into 1.048576e+07, which no setting takes. */}}
{{- define "certify.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{/* Maps as one, without a key twice: the first that has a key wins. Nothing where all are empty. Argument: maps. */}}
{{- define "certify.merged" -}}
{{- $all := dict -}}
{{- range $map := . }}
{{- range $key, $value := $map }}
{{- if not (hasKey $all $key) }}{{ $_ := set $all $key $value }}{{ end -}}
{{- end }}
{{- end }}
{{- if $all }}{{ toYaml $all }}{{ end -}}
{{- end -}}

{{/* What selects pods: never changed by an upgrade. Argument: (list $ "gateway"). */}}
{{- define "certify.selector" -}}
app.kubernetes.io/name: {{ include "certify.name" (index . 0) | quote }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ with get (index . 0) "Bundle" }}{{ . }}-{{ end }}{{ index . 1 }}
{{- end -}}

{{/* Argument: (list $ "gateway"), and maps of the component's own labels. */}}
{{- define "certify.labels" -}}
{{- $root := index . 0 -}}
{{- $own := include "certify.selector" . | fromYaml -}}
{{- with get $root "Bundle" }}{{ $_ := set $own "certify/bundle" . }}{{ end -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- include "certify.merged" (concat (list $own) (slice . 2) (list $root.Values.commonLabels)) -}}
{{- end -}}

{{/* What every object has below its name. Argument: (list $ component), and a map that may have labels, annotations (a list
of maps, the first that has a key wins) and namespace. */}}
{{- define "certify.metadata" -}}
{{- $root := index . 0 -}}
{{- $more := last . | kindIs "map" | ternary (last .) dict -}}
namespace: {{ get $more "namespace" | default $root.Release.Namespace | quote }}
labels: {{ include "certify.labels" (list $root (index . 1) (get $more "labels" | default dict)) | nindent 2 }}
{{ include "certify.annotations" (append (get $more "annotations" | default list) $root.Values.commonAnnotations) }}
{{- end -}}

{{/* Argument: maps of annotations; the line itself too, where there are any. */}}
{{- define "certify.annotations" -}}
{{- with include "certify.merged" . -}}
annotations: {{ . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Argument: (list $ image). A digest wins over a tag; without either, the chart's appVersion. A repository names a
registry if its first part has a dot or a port, or is localhost. */}}
{{- define "certify.image" -}}
{{- $image := index . 1 -}}
{{- $registry := (index . 0).Values.imageRegistry -}}
{{- if and $registry (not (regexMatch "^([^/]*[.:][^/]*|localhost)/" $image.repository)) }}{{ $registry }}/{{ end -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default (index . 0).Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- define "certify.gatewayImage" -}}
{{- include "certify.image" (list . (ternary .Values.embedded.image .Values.gateway.image .Values.embedded.enabled)) -}}
{{- end -}}
{{- define "certify.gatewayPullPolicy" -}}
{{- ternary .Values.embedded.image.pullPolicy .Values.gateway.image.pullPolicy .Values.embedded.enabled -}}
{{- end -}}

{{- define "certify.gatewayUrl" -}}
{{- printf "http://%s.%s.svc:%v" (include "certify.gateway" .) .Release.Namespace .Values.gateway.service.port -}}
{{- end -}}

{{- define "certify.gatewayServiceAccount" -}}
{{- if .Values.gateway.serviceAccount.create -}}
{{- default (include "certify.gateway" .) .Values.gateway.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.gateway.serviceAccount.name -}}
{{- end -}}
{{- end -}}
{{- define "certify.tritonServiceAccount" -}}
{{- if .Values.triton.serviceAccount.create -}}
{{- default (include "certify.triton" .) .Values.triton.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.triton.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Of a Service. */}}
{{- define "certify.ipFamilies" -}}
{{- with .Values.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.ipFamilies }}
ipFamilies: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* Whether Triton servers are the chart's to run. */}}
{{- define "certify.ownTriton" -}}
{{- if not (or .Values.embedded.enabled .Values.triton.url) }}true{{ end -}}
{{- end -}}

{{/* Whether Triton's last server may go while nobody asks. */}}
{{- define "certify.tritonToZero" -}}
{{- $triton := .Values.triton -}}
{{- if and (include "certify.ownTriton" .) $triton.keda.enabled (eq (int $triton.keda.minReplicas) 0) }}true{{ end -}}
{{- end -}}

{{/* A PodDisruptionBudget's spec but for its selector. */}}
{{- define "certify.disruptions" -}}
{{- if not (kindIs "invalid" .minAvailable) -}}
minAvailable: {{ .minAvailable }}
{{- else -}}
maxUnavailable: {{ .maxUnavailable }}
{{- end }}
{{- with .unhealthyPodEvictionPolicy }}
unhealthyPodEvictionPolicy: {{ . }}
{{- end }}
{{- end -}}

{{/* A ScaledObject's spec but for its target and triggers. Argument: a component's keda. */}}
{{- define "certify.scaling" -}}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail "keda: expected minReplicas at most maxReplicas" }}
{{- end -}}
minReplicaCount: {{ .minReplicas }}
maxReplicaCount: {{ .maxReplicas }}
pollingInterval: {{ .pollingInterval }}
cooldownPeriod: {{ .cooldownPeriod }}
{{- with .fallback }}
fallback: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .behavior }}
advanced:
  horizontalPodAutoscalerConfig:
    behavior: {{ toYaml . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* A trigger of Prometheus. Argument: (list keda query threshold ignoreNullValues). */}}
{{- define "certify.trigger" -}}
{{- $keda := index . 0 -}}
type: prometheus
{{- with $keda.authenticationRef }}
authenticationRef: {{ toYaml . | nindent 2 }}
{{- end }}
{{- $own := dict "serverAddress" $keda.serverAddress "query" (index . 1) "threshold" (index . 2) "ignoreNullValues" (index . 3) }}
metadata: {{ include "certify.merged" (list $own $keda.metadata) | nindent 2 }}
{{- end -}}

{{/* A ServiceMonitor's endpoint but for its place. */}}
{{- define "certify.scraping" -}}
interval: {{ .interval }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .relabelings }}
relabelings: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Looking names up. Argument: networkPolicy.egress. */}}
{{- define "certify.dns" -}}
- {{ with .dnsTo }}to: {{ toYaml . | nindent 4 }}
  {{ end }}ports:
    {{- range .dnsPorts }}
    - {port: {{ . }}, protocol: UDP}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end -}}
