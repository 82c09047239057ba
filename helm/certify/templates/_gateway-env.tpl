{{/* The gateway's variables: settings that the chart makes, settings of the user's, other variables. */}}
{{- define "certify.gatewayEnv" -}}
{{- $settings := .Values.gateway.settings -}}
# Every address of both families.
- {name: CERTIFY_HTTP_HOST, value: "::"}
- {name: CERTIFY_HTTP_PORT, value: "8000"}
{{- with get . "Bundle" }}
- {name: CERTIFY_ROOT_PATH, value: {{ include "certify.bundlePath" . }}}
{{- end }}
{{- if .Values.embedded.enabled }}
- {name: CERTIFY_BACKEND, value: embedded}
- {name: CERTIFY_BUNDLE, value: {{ include "certify.bundle" .Values.embedded | quote }}}
- {name: CERTIFY_ENGINE, value: {{ .Values.embedded.engine }}}
{{- with .Values.embedded.microBatch }}
- {name: CERTIFY_MICRO_BATCH, value: {{ include "certify.text" . | quote }}}
{{- end }}
{{- if not (hasKey $settings "workers") }}
- name: CERTIFY_WORKERS
  valueFrom:
    resourceFieldRef: {containerName: gateway, resource: {{ ternary "limits.cpu" "requests.cpu" (hasKey .Values.embedded.resources.limits "cpu") }}}
{{- end }}
{{- else }}
- {name: CERTIFY_BACKEND, value: triton}
# Every server behind the name, looked up again as they come and go.
- name: CERTIFY_TRITON_URL
  value: {{ .Values.triton.url | default (printf "dns:///%s.%s.svc:8001" (include "certify.triton" .) .Release.Namespace) | quote }}
# A day where Triton comes only when it is needed.
- name: CERTIFY_START_SECONDS
  value: {{ ternary 86400 (add .Values.triton.startupSeconds 60) (ne (include "certify.tritonToZero" .) "") | quote }}
{{- end }}
- {name: CERTIFY_GRACE_SECONDS, value: {{ .Values.gateway.longestAnswerSeconds | quote }}}
- name: CERTIFY_SEED_KEY
  valueFrom:
    secretKeyRef: {name: {{ include "certify.seedSecret" . | quote }}, key: {{ include "certify.seedSecretKey" . | quote }}}
{{- if include "certify.apiKeysSecret" . }}
- {name: CERTIFY_API_KEYS_FILE, value: /etc/certify/keys/clients}
{{- end }}
{{- if .Values.signingKey.existingSecret }}
- {name: CERTIFY_SIGNING_KEY_FILE, value: /etc/certify/signing/signing.pem}
{{- end }}
{{- range $name, $value := $settings }}
- {name: {{ printf "CERTIFY_%s" (upper $name) }}, value: {{ include "certify.text" $value | quote }}}
{{- end }}
{{- with .Values.gateway.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A name of the image's, or a folder of the mounted source. Argument: embedded. */}}
{{- define "certify.bundle" -}}
{{- if eq .bundles.source "image" }}{{ .bundle }}{{ else }}{{ printf "/bundles/%s" .bundle | clean }}{{ end -}}
{{- end -}}
