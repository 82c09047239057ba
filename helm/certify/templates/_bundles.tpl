{{/* A release serves its own bundle, or those of `bundles`, or both: each by a set of components of its own. A set's scope
is the release's (.Root), but for the values gateway, embedded and triton, and for .Bundle, its name; the own bundle's is
the release's itself. */}}

{{/* A template for every set. Argument: (list $ template). */}}
{{- define "certify.sets" -}}
{{- $root := index . 0 -}}
{{- $template := index . 1 -}}
{{- include "certify.checkBundles" $root -}}
{{- if $root.Values.ownBundle -}}
{{ include "certify.pod" (include $template $root) }}
{{- end }}
{{- range $name, $_ := $root.Values.bundles }}
{{- $scope := dict }}
{{- include "certify.scope" (list $scope $root $name) }}
---
{{ include "certify.pod" (include $template $scope) }}
{{- end }}
{{- end -}}

{{/* Fills a map with a bundle's scope. Argument: (list map $ name). */}}
{{- define "certify.scope" -}}
{{- $scope := index . 0 -}}
{{- $root := index . 1 -}}
{{- $own := index $root.Values.bundles (index . 2) | default dict -}}
{{- $values := dict -}}
{{- range $key, $value := $root.Values }}{{ $_ := set $values $key $value }}{{ end -}}
{{- range $key := list "gateway" "embedded" "triton" -}}
{{- $section := deepCopy (index $root.Values $key) -}}
{{- if eq $key "gateway" -}}
{{- /* One load balancer, or port of the nodes, is the release's: its gateways are asked by way of it. */ -}}
{{- include "certify.overlay" (list $section.service (dict "type" "ClusterIP" "nodePort" 0 "clusterIP" "" "loadBalancerIP" "" "loadBalancerClass" "" "loadBalancerSourceRanges" (list) "externalTrafficPolicy" "")) -}}
{{- end -}}
{{- include "certify.overlay" (list $section (index $own $key | default dict)) -}}
{{- $_ := set $values $key $section -}}
{{- end -}}
{{- range $key, $value := $root }}{{ $_ := set $scope $key $value }}{{ end -}}
{{- $_ := set $scope "Values" $values -}}
{{- $_ := set $scope "Bundle" (index . 2) -}}
{{- $_ := set $scope "Root" $root -}}
{{- end -}}

{{/* Writes one map over another, key by key at every depth; null takes a key away. Argument: (list under over). */}}
{{- define "certify.overlay" -}}
{{- $under := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- if and (kindIs "map" $value) (kindIs "map" (index $under $key)) -}}
{{- include "certify.overlay" (list (index $under $key) $value) -}}
{{- else if kindIs "invalid" $value -}}
{{- $_ := unset $under $key -}}
{{- else -}}
{{- $_ := set $under $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where a bundle's API is. Argument: its name. */}}
{{- define "certify.bundlePath" -}}/v1/bundles/{{ . }}{{- end -}}

{{/* What a set's components are called after. */}}
{{- define "certify.set" -}}
{{- with get . "Bundle" -}}
{{- printf "%s-%s" (include "certify.fullname" $ | trunc (sub 49 (len .) | int) | trimSuffix "-") . -}}
{{- else -}}
{{- include "certify.fullname" . -}}
{{- end -}}
{{- end -}}

{{/* Percent of what comes without a bundle's name that goes to those of `bundles`. */}}
{{- define "certify.weights" -}}
{{- $sum := 0 -}}
{{- range .Values.bundles }}{{ $sum = add $sum (get . "weight" | default 0) }}{{ end -}}
{{- $sum -}}
{{- end -}}

{{- define "certify.checkBundles" -}}
{{- $sum := include "certify.weights" . | int -}}
{{- if and (not .Values.ownBundle) (not .Values.bundles) -}}
{{- fail "ownBundle: expected true, or bundles: else nothing is served" -}}
{{- else if gt $sum 100 -}}
{{- fail (printf "bundles: expected weights that are at most 100 together, got %d" $sum) -}}
{{- else if and (not .Values.ownBundle) (ne $sum 100) -}}
{{- fail (printf "bundles: expected weights that are 100 together, since ownBundle is false, got %d" $sum) -}}
{{- end -}}
{{- if .Values.bundles -}}
{{- $paths := list .Values.gateway.settings -}}
{{- range .Values.bundles }}{{ $paths = append $paths (dig "gateway" "settings" dict .) }}{{ end -}}
{{- range $paths }}{{ if get . "root_path" }}{{ fail "gateway.settings.root_path: expected none beside bundles, whose gateways have /v1/bundles/NAME" }}{{ end }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Of `bundles`, the one with the largest weight, the first by name among equals. */}}
{{- define "certify.heaviest" -}}
{{- $found := "" -}}
{{- $most := -1 -}}
{{- range $name, $own := .Values.bundles -}}
{{- $weight := get $own "weight" | default 0 | int -}}
{{- if gt $weight $most }}{{ $found = $name }}{{ $most = $weight }}{{ end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* Fills a map with the scope of the set that stands for the release: its own bundle's, else the heaviest's.
Argument: (list map $), of any scope. */}}
{{- define "certify.first" -}}
{{- $scope := index . 0 -}}
{{- $root := get (index . 1) "Root" | default (index . 1) -}}
{{- if $root.Values.ownBundle -}}
{{- range $key, $value := $root }}{{ $_ := set $scope $key $value }}{{ end -}}
{{- else -}}
{{- include "certify.scope" (list $scope $root (include "certify.heaviest" $root)) -}}
{{- end -}}
{{- end -}}

{{/* Whether a set makes its component's service account: sets that are told one name share one. Argument: (list $ section). */}}
{{- define "certify.ownAccount" -}}
{{- $account := (index (index . 0).Values (index . 1)).serviceAccount -}}
{{- $first := dict -}}
{{- include "certify.first" (list $first (index . 0)) -}}
{{- $same := eq (index $first.Values (index . 1)).serviceAccount.name $account.name -}}
{{- if and $account.create (or (not $account.name) (not $same) (eq (get (index . 0) "Bundle") (get $first "Bundle"))) }}true{{ end -}}
{{- end -}}

{{/* Fills a map with the scope of the set that the data-set Job asks. Argument: (list map $), of any scope. */}}
{{- define "certify.datasetScope" -}}
{{- $root := get (index . 1) "Root" | default (index . 1) -}}
{{- $name := $root.Values.dataset.bundle -}}
{{- if not $name -}}
{{- include "certify.first" (list (index . 0) $root) -}}
{{- else if hasKey $root.Values.bundles $name -}}
{{- include "certify.scope" (list (index . 0) $root $name) -}}
{{- else -}}
{{- fail (printf "dataset.bundle: expected one of bundles (%s), got %s" (keys $root.Values.bundles | sortAlpha | join ", ") $name) -}}
{{- end -}}
{{- end -}}
