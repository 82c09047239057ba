{{/* What Prometheus calls a set's gateways. */}}
{{- define "certify.gatewaySelector" -}}
{{- default (printf "namespace=%q, job=%q" .Release.Namespace (include "certify.gateway" .)) .Values.monitoring.prometheusRule.gatewaySelector -}}
{{- end -}}

{{/* A histogram's bound as the client library writes it: 10 -> 10.0. */}}
{{- define "certify.bound" -}}
{{- $text := include "certify.text" . -}}
{{- if contains "." $text }}{{ $text }}{{ else }}{{ $text }}.0{{ end -}}
{{- end -}}

{{/* An alert's labels and annotations. Argument: (list $ name severity summary), and a map of other labels. */}}
{{- define "certify.alert" -}}
{{- $rule := (index . 0).Values.monitoring.prometheusRule -}}
{{- $bundle := dict -}}
{{- with get (index . 0) "Bundle" }}{{ $bundle = dict "bundle" . }}{{ end -}}
labels: {{ include "certify.merged" (concat (list (dict "severity" (index . 2)) $bundle) (slice . 4) (list $rule.alertLabels)) | nindent 2 }}
annotations:
  summary: {{ index . 3 | quote }}
  runbook_url: {{ printf "%s#%s" $rule.runbookUrl (index . 1 | lower) | quote }}
{{- end -}}
