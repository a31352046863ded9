# All that the gateway may do: read its own secrets, and keep its own token alive.
path "secret/data/obs-hub/*" {
  capabilities = ["read"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
