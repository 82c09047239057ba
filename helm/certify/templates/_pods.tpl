{{/* An object's text, refused if its pods have a name twice: the chart's and one of the extra... values'. Argument: the text. */}}
{{- define "certify.pod" -}}
{{- $object := fromYaml . -}}
{{- $spec := dig "spec" "template" "spec" dict $object -}}
{{- $containers := concat (get $spec "initContainers" | default list) (get $spec "containers" | default list) -}}
{{- $lists := list (list "volumes" "name" (get $spec "volumes")) (list "containers" "name" $containers) -}}
{{- range $containers }}
{{- $lists = append $lists (list (printf "the container %s: env" .name) "name" (get . "env")) -}}
{{- $lists = append $lists (list (printf "the container %s: volumeMounts" .name) "mountPath" (get . "volumeMounts")) -}}
{{- end -}}
{{- range $list := $lists }}
{{- $seen := list -}}
{{- range (index $list 2) | default list }}
{{- $name := get . (index $list 1) -}}
{{- if has $name $seen }}
{{- fail (printf "%s %s, %s: expected each %s once, got %q twice, the chart's own or another of yours: rename the one in extra..." $object.kind $object.metadata.name (index $list 0) (index $list 1) $name) -}}
{{- end -}}
{{- $seen = append $seen $name -}}
{{- end -}}
{{- end -}}
{{ . }}
{{- end -}}

{{/* Argument: (list $ section component): where a component's pods may run, and by what. */}}
{{- define "certify.placement" -}}
{{- $root := index . 0 -}}
{{- $section := index . 1 -}}
automountServiceAccountToken: {{ dig "serviceAccount" "automount" false $section }}
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $section.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $section.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $section.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $section.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- $own := dict "labelSelector" (dict "matchLabels" (include "certify.selector" (list $root (index $ 2)) | fromYaml)) }}
  {{- range . }}
  - {{ include "certify.merged" (list . $own) | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- range $key := list "runtimeClassName" "priorityClassName" "schedulerName" "dnsPolicy" "dnsConfig" "hostAliases" "resourceClaims" }}
{{- with index $section $key }}
{{- if kindIs "string" . }}
{{ $key }}: {{ . | quote }}
{{- else }}
{{ $key }}: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Argument: (list $ section). */}}
{{- define "certify.podSecurity" -}}
{{- $security := (index . 1).podSecurityContext -}}
{{- if (index . 0).Values.openshift }}{{ $security = omit $security "runAsUser" "runAsGroup" "fsGroup" }}{{ end -}}
securityContext: {{ toYaml $security | nindent 2 }}
{{- end -}}

{{/* How a Deployment's pods are replaced, and how long that may take: a start, and ten minutes for images to come.
Argument: (list $ section strategy). */}}
{{- define "certify.replacing" -}}
{{- $section := index . 1 -}}
{{- with $section.minReadySeconds }}
minReadySeconds: {{ . }}
{{- end }}
revisionHistoryLimit: {{ $section.revisionHistoryLimit }}
progressDeadlineSeconds: {{ add (index . 0).Values.triton.startupSeconds $section.minReadySeconds 660 }}
{{- with index . 2 }}
strategy: {{ ternary (dict "type" "Recreate") . (eq .type "Recreate") | toYaml | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The init container that fills an empty volume. Argument: (list section source mount-path value-path). */}}
{{- define "certify.fill" -}}
{{- $section := index . 0 -}}
{{- $init := (index . 1).init -}}
{{- $path := index . 2 -}}
- name: models
  image: {{ required (printf "%s.init.image: expected an image, since source is init" (index . 3)) $init.image | quote }}
  {{- with $init.command }}
  command: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $init.args }}
  args: {{ toYaml . | nindent 4 }}
  {{- end }}
  env:
    {{- $names := list }}
    {{- range $init.env }}{{ $names = append $names .name }}{{ end }}
    {{- if not (has "HOME" $names) }}
    - {name: HOME, value: /tmp}
    {{- end }}
    {{- with $init.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $init.envFrom }}
  envFrom: {{ toYaml . | nindent 4 }}
  {{- end }}
  resources: {{ toYaml $init.resources | nindent 4 }}
  securityContext: {{ toYaml $section.containerSecurityContext | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: {{ $path }}}
    - {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* Where models come from, mounted. Argument: (list source mount-path). */}}
{{- define "certify.modelsMount" -}}
{{- $source := index . 0 -}}
- name: models
  mountPath: {{ index . 1 }}
  readOnly: true
  {{- with ternary $source.ociImage.subPath $source.subPath (eq $source.source "ociImage") }}
  subPath: {{ . | quote }}
  {{- end }}
{{- end -}}

{{/* Argument: (list source value-path). */}}
{{- define "certify.modelsVolume" -}}
{{- $source := index . 0 -}}
- name: models
  {{- if eq $source.source "volume" }}
  persistentVolumeClaim:
    claimName: {{ required (printf "%s.existingClaim: expected a claim, since source is volume" (index . 1)) $source.existingClaim | quote }}
    readOnly: true
  {{- else if eq $source.source "ociImage" }}
  image:
    reference: {{ required (printf "%s.ociImage.reference: expected an image, since source is ociImage" (index . 1)) $source.ociImage.reference | quote }}
    pullPolicy: {{ $source.ociImage.pullPolicy }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end -}}
