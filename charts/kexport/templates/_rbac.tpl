{{- /*
What config.resources needs, as JSON: `everywhere` and, for each namespace that is named, `namespaces.NAME` map an
API group to its resources. The same as `kexport rbac --offline`; a test compares them.
*/ -}}
{{- define "kexport.wanted" -}}
{{- $cluster := list "namespaces" "nodes" "persistentvolumes" -}}
{{- $core := list "configmaps" "endpoints" "events" "limitranges" "persistentvolumeclaims" "pods" "podtemplates" "replicationcontrollers" "resourcequotas" "secrets" "serviceaccounts" "services" -}}
{{- $everywhere := dict -}}
{{- $namespaces := dict -}}
{{- range $index, $entry := .Values.config.resources -}}
{{- $parts := splitn "." 2 $entry.resource -}}
{{- $name := $parts._0 -}}
{{- $group := default "" $parts._1 -}}
{{- if or (contains "*" $entry.resource) (contains "${" $entry.resource) (regexMatch "^v[0-9]+((alpha|beta)[0-9]+)?\\." (printf "%s." $group)) (and (not $group) (not (has $name (concat $cluster $core)))) -}}
{{- fail (printf "config.resources[%d].resource: no permissions can be made of %q; write it in full and without a version (pods, deployments.apps), or set rbac.create to false and grant what `kexport rbac` prints" $index $entry.resource) -}}
{{- end -}}
{{- if and $entry.namespaces (not $group) (has $name $cluster) -}}
{{- fail (printf "config.resources[%d].namespaces: %s is not namespaced; leave namespaces out" $index $name) -}}
{{- end -}}
{{- if or (not $entry.namespaces) (regexMatch "[*?\\[$]" (join "" $entry.namespaces)) -}}
{{- /* Patterns are applied by kexport, which follows all namespaces for them. */ -}}
{{- $_ := set $everywhere $group (append (default list (get $everywhere $group)) $name | uniq) -}}
{{- else -}}
{{- range $namespace := $entry.namespaces -}}
{{- $groups := default dict (get $namespaces $namespace) -}}
{{- $_ := set $groups $group (append (default list (get $groups $group)) $name | uniq) -}}
{{- $_ := set $namespaces $namespace $groups -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "everywhere" $everywhere "namespaces" $namespaces) -}}
{{- end -}}

{{- /* Rules of `groups`, without what `granted` has: a rule for each API group. */ -}}
{{- define "kexport.rules" -}}
{{- range $group, $names := .groups }}
{{- $missing := list }}
{{- range $names }}
{{- if not (has . (default list (get $.granted $group))) }}{{ $missing = append $missing . }}{{ end }}
{{- end }}
{{- if $missing }}
- apiGroups: [{{ $group | quote }}]
  resources: {{ sortAlpha $missing | toJson }}
  verbs: ["list", "watch"]
{{- end }}
{{- end }}
{{- end -}}

{{- define "kexport.subjects" -}}
- kind: ServiceAccount
  name: {{ include "kexport.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
