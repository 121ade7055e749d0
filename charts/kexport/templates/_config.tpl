{{- /*
config as TOML. Not toToml, which prints whole numbers as floats, where kexport wants integers: scalars are
printed as JSON, which is TOML, too.
*/ -}}
{{- define "kexport.toml" -}}
{{- range $key, $value := .Values.config }}
{{- if not (or (kindIs "map" $value) (eq $key "resources" "routes" "transforms")) }}
{{ $key }} = {{ include "kexport.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := omit .Values.config "sinks" }}
{{- if kindIs "map" $value }}
{{ include "kexport.tomlTable" (dict "title" (printf "[%s]" $key) "table" $value) }}
{{- end }}
{{- end }}
{{- range $key := list "resources" "transforms" "routes" }}
{{- range default list (get $.Values.config $key) }}
{{ include "kexport.tomlTable" (dict "title" (printf "[[%s]]" $key) "table" .) }}
{{- end }}
{{- end }}
{{- range $name, $sink := .Values.config.sinks }}
{{ include "kexport.tomlTable" (dict "title" (printf "[sinks.%s]" (toJson $name)) "table" $sink) }}
{{- end }}
{{- end -}}

{{- define "kexport.tomlTable" -}}
{{ .title }}
{{- range $key, $value := .table }}
{{ $key }} = {{ include "kexport.tomlValue" $value }}
{{- end }}
{{ end -}}

{{- define "kexport.tomlValue" -}}
{{- if kindIs "map" . -}}
{ {{- $first := true -}}
{{- range $key, $value := . -}}
{{- if not $first }}, {{ end -}}{{- $first = false -}}
{{ toJson $key }} = {{ include "kexport.tomlValue" $value -}}
{{- end -}} }
{{- else if kindIs "slice" . -}}
[{{- range $index, $value := . -}}{{- if $index }}, {{ end -}}{{ include "kexport.tomlValue" $value }}{{- end -}}]
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{- /* What a schema cannot say; each message names the place, the problem and the way out. */ -}}
{{- define "kexport.validate" -}}
{{- $known := concat (list "file" "kafka" "otlp" "s3") .Values.extraSinkTypes -}}
{{- range $name, $sink := .Values.config.sinks -}}
{{- if not (has $sink.type $known) -}}
{{- fail (printf "config.sinks.%s.type: the image has no sink type %q, only %s; name what a derived image brings in extraSinkTypes" $name $sink.type (join ", " $known)) -}}
{{- end -}}
{{- include "kexport.validateSecrets" (dict "place" (printf "config.sinks.%s" $name) "table" $sink) -}}
{{- end -}}
{{- with .Values.config.telemetry -}}
{{- include "kexport.validateSecrets" (dict "place" "config.telemetry" "table" .) -}}
{{- end -}}
{{- if or (not .Values.config.http.listen) (hasPrefix "127." .Values.config.http.listen) (hasPrefix "localhost:" .Values.config.http.listen) (hasPrefix "[::1]:" .Values.config.http.listen) -}}
{{- fail (printf "config.http.listen: the probes cannot reach %q; use \"0.0.0.0:9273\", or \"[::]:9273\" where Pods have IPv6 only" .Values.config.http.listen) -}}
{{- end -}}
{{- if not (hasPrefix "/var/lib/kexport/" .Values.config.journal.path) -}}
{{- fail (printf "config.journal.path: %q is not on the volume, positions would be lost with the Pod; use a folder below /var/lib/kexport" .Values.config.journal.path) -}}
{{- end -}}
{{- if and .Values.persistence.existingClaim (not .Values.persistence.enabled) -}}
{{- fail (printf "persistence.existingClaim: %q would not be used, since persistence.enabled is false; leave one of the two out" .Values.persistence.existingClaim) -}}
{{- end -}}
{{- range $key := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
{{- if hasKey $.Values.commonLabels $key -}}
{{- fail (printf "commonLabels: %s is the chart's own; take another name" $key) -}}
{{- end -}}
{{- end -}}
{{- $shutdown := dig "shutdown_seconds" 20 .Values.config -}}
{{- if le (int64 .Values.terminationGracePeriodSeconds) (int64 $shutdown) -}}
{{- fail (printf "terminationGracePeriodSeconds: %v is not longer than config.shutdown_seconds (%v), kexport would be killed while it delivers; make it at least %d" .Values.terminationGracePeriodSeconds $shutdown (add (int64 $shutdown) 10)) -}}
{{- end -}}
{{- end -}}

{{- /* A value by its key's name, at any depth, that stands in the ConfigMap for everybody to read. */ -}}
{{- define "kexport.validateSecrets" -}}
{{- $place := .place -}}
{{- range $key, $value := .table -}}
{{- if kindIs "map" $value -}}
{{- include "kexport.validateSecrets" (dict "place" (printf "%s.%s" $place $key) "table" $value) -}}
{{- else if and (kindIs "string" $value) (regexMatch "(?i)(password|secret|token|^authorization$|api[_-]?key$)" $key) -}}
{{- if and $value (not (contains "${" $value)) (not (regexMatch "(?i)(_url|_file|_path|endpoint)$" $key)) -}}
{{- fail (printf "%s.%s: would stand in a ConfigMap, readable by many; put it into a Secret, name that in envFrom or secretFiles, and write ${NAME} or ${file:/run/secrets/kexport/SECRET/KEY} here" $place $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
