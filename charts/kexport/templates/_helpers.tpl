{{- define "kexport.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* A StatefulSet's Pods carry its name, "-0" and, as a label, a hash of ten characters: 52 is what fits in. */ -}}
{{- define "kexport.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "kexport.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "kexport.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* ClusterRoles, and Roles in foreign namespaces, must not meet those of the same release name elsewhere. */ -}}
{{- define "kexport.roleName" -}}
{{- printf "%s:%s" .Release.Namespace (include "kexport.fullname" .) -}}
{{- end -}}

{{- define "kexport.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "kexport.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "kexport.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kexport.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "kexport.labels" -}}
{{ include "kexport.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kexport.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "kexport.claimName" -}}
{{- if .Values.persistence.existingClaim -}}
{{- .Values.persistence.existingClaim -}}
{{- else -}}
{{- printf "journal-%s-0" (include "kexport.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "kexport.port" -}}
{{- regexFind "[0-9]+$" .Values.config.http.listen -}}
{{- end -}}
