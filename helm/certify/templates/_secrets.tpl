{{/* Secrets that are made once and kept. Without a cluster to ask (`helm template`) none is made unless generate is
always: two renderings are equal, and none replaces what an earlier one made. */}}

{{/* Whether there is a cluster that answers: a list has a kind even when it is empty. */}}
{{- define "certify.cluster" -}}
{{- if (lookup "v1" "Secret" .Release.Namespace "") }}true{{ end -}}
{{- end -}}

{{/* The text of a Secret's entry: what the cluster has, else new random text where that is allowed, else nothing.
Argument: (list $ secret entry generate). */}}
{{- define "certify.kept" -}}
{{- $root := index . 0 -}}
{{- $found := (lookup "v1" "Secret" $root.Release.Namespace (index . 1)).data | default dict -}}
{{- if hasKey $found (index . 2) -}}
{{- index $found (index . 2) | b64dec -}}
{{- else if or (eq (index . 3) "always") (and (eq (index . 3) "auto") (include "certify.cluster" $root)) -}}
{{- randAlphaNum 64 -}}
{{- end -}}
{{- end -}}

{{- define "certify.seedSecret" -}}
{{- default (printf "%s-seed" (include "certify.fullname" .)) .Values.seedKey.existingSecret -}}
{{- end -}}
{{- define "certify.seedSecretKey" -}}
{{- ternary .Values.seedKey.existingSecretKey "seed-key" (ne .Values.seedKey.existingSecret "") -}}
{{- end -}}

{{/* The chart's own seed key, the same text wherever a rendering asks for it. Nothing: somebody else makes it. */}}
{{- define "certify.seedKey" -}}
{{- $seed := .Values.seedKey -}}
{{- if $seed.existingSecret -}}
{{- else if $seed.value -}}
{{- $seed.value -}}
{{- else -}}
{{- if not (hasKey $seed "made") -}}
{{- $_ := set $seed "made" (include "certify.kept" (list . (include "certify.seedSecret" .) "seed-key" $seed.generate)) -}}
{{- end -}}
{{- $seed.made -}}
{{- end -}}
{{- end -}}

{{/* Pods read the seed key at their start; another one starts them again. Of a Secret of the user's, what the cluster
says; nothing where there is none to ask. API keys are read again by themselves. */}}
{{- define "certify.seedChecksum" -}}
{{- with include "certify.seedKey" . -}}
{{- sha256sum . -}}
{{- else -}}
{{- $found := (lookup "v1" "Secret" .Release.Namespace (include "certify.seedSecret" .)).data | default dict -}}
{{- with index $found (include "certify.seedSecretKey" .) -}}
{{- . | b64dec | sha256sum -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The same of the signing key, which is always a Secret of the user's. */}}
{{- define "certify.signingChecksum" -}}
{{- with .Values.signingKey.existingSecret -}}
{{- $found := (lookup "v1" "Secret" $.Release.Namespace .).data | default dict -}}
{{- with index $found $.Values.signingKey.existingSecretKey -}}
{{- . | b64dec | sha256sum -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret whose key holds the clients; nothing where anybody may ask. */}}
{{- define "certify.apiKeysSecret" -}}
{{- if .Values.apiKeys.existingSecret -}}
{{- .Values.apiKeys.existingSecret -}}
{{- else if .Values.apiKeys.clients -}}
{{- include "certify.fullname" . }}-api-keys
{{- end -}}
{{- end -}}
{{- define "certify.apiKeysEntry" -}}
{{- ternary .Values.apiKeys.existingSecretKey "clients" (ne .Values.apiKeys.existingSecret "") -}}
{{- end -}}
