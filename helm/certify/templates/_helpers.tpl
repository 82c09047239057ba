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

{{- define "certify.gateway" -}}{{ include "certify.fullname" . }}-gateway{{- end -}}
{{- define "certify.triton" -}}{{ include "certify.fullname" . }}-triton{{- end -}}

{{/* A number as it is written: Helm's own way turns 10485760 into 1.048576e+07, which no setting takes. */}}
{{- define "certify.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{/* What selects pods: never changed by an upgrade. Argument: (list $ "gateway"). */}}
{{- define "certify.selector" -}}
app.kubernetes.io/name: {{ include "certify.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "certify.labels" -}}
{{ include "certify.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Argument: (list $ image). A digest wins over a tag; without either, the chart's appVersion. */}}
{{- define "certify.image" -}}
{{- $image := index . 1 -}}
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
{{- define "certify.gatewayResources" -}}
{{- toYaml (ternary .Values.embedded.resources .Values.gateway.resources .Values.embedded.enabled) -}}
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

{{- define "certify.seedSecret" -}}
{{- default (printf "%s-seed" (include "certify.fullname" .)) .Values.seedKey.existingSecret -}}
{{- end -}}
{{- define "certify.seedSecretKey" -}}
{{- ternary .Values.seedKey.existingSecretKey "seed-key" (ne .Values.seedKey.existingSecret "") -}}
{{- end -}}

{{- define "certify.podSecurity" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}
{{- define "certify.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "certify.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Argument: (list $ section): where a component's pods may run. */}}
{{- define "certify.placement" -}}
{{- with (index . 1).nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 1).tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with (index . 1).affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
