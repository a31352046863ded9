#!/bin/sh
# What `make k3s-...` does: the hub, or one part of it after the other, on the Kubernetes that kubectl reaches.
#
#   charts/k3s.sh up [postgres|loki|grafana|alloy|gateway]    without a name: all
#   charts/k3s.sh status
#   charts/k3s.sh down                                        DATA=delete for volumes and passwords, too
#   charts/k3s.sh image                                       builds the image and gives it to this machine's k3s
#   charts/k3s.sh token NAME [SCOPE]                          makes a token of the gateway's and prints it
#
# Environment: NAMESPACE (observability), RELEASE (obs-hub), PROFILE (a values file of charts/hub, such as homelab, medium
# or "small homelab"), VALUES (a file of your own), IMAGE (registry/repository:tag), KUBECONFIG as kubectl has it.
set -eu

charts=$(cd "$(dirname "$0")" && pwd)
namespace=${NAMESPACE:-observability}
release=${RELEASE:-obs-hub}
profile=${PROFILE:-homelab}
parts="postgres loki grafana alloy gateway"

say() { echo "$*" >&2; }

need() {
    for program in "$@"; do
        command -v "$program" >/dev/null || { say "$program is not on PATH; docs/kubernetes.md says how it is had"; exit 1; }
    done
}

reachable() {
    need kubectl
    kubectl version >/dev/null 2>&1 || {
        say "kubectl reaches no cluster. On a machine with k3s: export KUBECONFIG=/etc/rancher/k3s/k3s.yaml, readable by you"
        exit 1
    }
}

installed() { helm status "$release" --namespace "$namespace" >/dev/null 2>&1; }

# Options of helm that this environment stands for.
options() {
    for name in $profile; do
        file=$charts/hub/values-$name.yaml
        [ -f "$file" ] || { say "there is no profile $name: it would be $file"; exit 1; }
        echo --values "$file"
    done
    [ -z "${VALUES:-}" ] || echo --values "$VALUES"
    if [ -n "${IMAGE:-}" ]; then
        path=${IMAGE%:*} tag=${IMAGE##*:}
        case $IMAGE in *:*) ;; *) say "IMAGE names no tag: registry/repository:tag"; exit 1 ;; esac
        case $path in */*) echo --set "gateway.image.registry=${path%/*}" ;; esac
        echo --set "gateway.image.repository=${path##*/}" --set-string "gateway.image.tag=$tag"
    fi
}

install() {
    # shellcheck disable=SC2086 # words on purpose: paths of the checkout with spaces in them are refused below
    helm upgrade --install "$release" "$charts/hub" --namespace "$namespace" --create-namespace "$@"
}

up() {
    case $charts in *" "*) say "helm cannot be told files below $charts: move the checkout to a path without spaces"; exit 1 ;; esac
    part=${1:-}
    reachable
    need helm
    given=$(options)
    if [ -z "$part" ]; then
        # shellcheck disable=SC2086
        install $given --timeout "${TIMEOUT:-15m}"
        return
    fi
    case " $parts " in *" $part "*) ;; *) say "there is no part $part: $parts"; exit 1 ;; esac
    case $part in
        gateway | grafana)
            kubectl --namespace "$namespace" get secret obs-hub-store >/dev/null 2>&1 || {
                say "there is no store yet: make k3s-postgres-up, or make the Secrets that charts/hub/values.yaml names"
                exit 1
            }
            ;;
    esac
    set -- --set "$part.enabled=true"
    [ "$part" != loki ] || set -- "$@" --values "$charts/hub/values-loki.yaml"
    if installed; then
        # shellcheck disable=SC2086
        install --reset-then-reuse-values $given "$@" --timeout "${TIMEOUT:-15m}"
        return
    fi
    # The first part of all: the others are off until they are asked for.
    for other in $parts; do
        [ "$other" = "$part" ] || set -- --set "$other.enabled=false" "$@"
    done
    # shellcheck disable=SC2086
    install $given "$@" --timeout "${TIMEOUT:-15m}"
}

status() {
    reachable
    need helm
    installed || { say "no release $release in the namespace $namespace: make k3s-up"; exit 1; }
    kubectl --namespace "$namespace" get pods,services,persistentvolumeclaims,jobs --selector "app.kubernetes.io/instance=$release"
    kubectl --namespace "$namespace" exec statefulset/obs-hub --container gateway -- obs-hub doctor 2>/dev/null || true
    helm get notes "$release" --namespace "$namespace"
}

down() {
    reachable
    need helm
    if installed; then helm uninstall "$release" --namespace "$namespace" --wait; fi
    selector=app.kubernetes.io/instance=$release
    if [ "${DATA:-}" = delete ]; then
        kinds=persistentvolumeclaims,secrets
        if kubectl get customresourcedefinition clusters.postgresql.cnpg.io >/dev/null 2>&1; then
            kinds=clusters.postgresql.cnpg.io,$kinds
        fi
        kubectl --namespace "$namespace" delete "$kinds" --selector "$selector"
        say "Volumes and passwords are deleted."
    else
        say "Kept, with all that was stored:"
        kubectl --namespace "$namespace" get persistentvolumeclaims,secrets --selector "$selector" --output name >&2
        say "To delete these as well: make k3s-down DATA=delete"
    fi
}

image() {
    need docker
    name=${IMAGE:-obs-hub:$(sed -n 's/^appVersion: "\(.*\)"/\1/p' "$charts/gateway/Chart.yaml")}
    version=$(cd "$charts/../gateway/packaging" && python3 -c 'import version; print(version.__version__)')
    docker build --build-arg VERSION="$version" --tag "$name" "$charts/.."
    if command -v k3s >/dev/null; then
        docker save "$name" | k3s ctr images import -
    else
        say "There is no k3s on this machine: docker push $name to where your nodes pull from, and give IMAGE=$name to make"
    fi
}

token() {
    name=${1:?a name for the token, such as nas}
    scope=${2:-ingest}
    reachable
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    chmod 700 "$folder"
    kubectl --namespace "$namespace" get secret obs-hub-tokens --output 'go-template={{index .data "tokens.json" | base64decode}}' >"$folder/tokens.json"
    "${OBS_HUB:-obs-hub}" token create "$name" --scope "$scope" --quiet --data-dir "$folder" >"$folder/token"
    patch=$(base64 <"$folder/tokens.json" | tr -d '\n')
    kubectl --namespace "$namespace" patch secret obs-hub-tokens --type merge --patch "{\"data\":{\"tokens.json\":\"$patch\"}}" >&2
    cat "$folder/token"
}

case ${1:-} in
    up | status | down | image | token) "$@" ;;
    *) sed -n '2,/^set -eu/p' "$0" | sed -n 's/^# \{0,1\}//p' >&2; exit 2 ;;
esac
