# One OpenBao on the machine of the gateway, reached over loopback. docs/secrets.md says how to set it up.
ui = false

# Without mlock, secrets could be swapped out: leave swap off, or encrypt it.
disable_mlock = true

storage "raft" {
  path    = "/var/lib/openbao"
  node_id = "hub"
}

listener "tcp" {
  address     = "127.0.0.1:8200"
  # Loopback only. On any other address: tls_cert_file and tls_key_file instead.
  tls_disable = true
}

api_addr     = "http://127.0.0.1:8200"
cluster_addr = "http://127.0.0.1:8201"
