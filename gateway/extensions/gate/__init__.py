"""The Tailscale gate: the webhook can be reached from the internet only while the gateway is ready to act on it.

A process of its own (``obs-hub gate run``), so that it outlives a gateway that dies. It asks the API front whether the
gateway is ready, and opens or closes one path of Tailscale Funnel (or Serve) by running ``tailscale``.

========================= ==========================================================
`config`                  the settings
`readiness`               asking the gateway, and not being shaken by a single answer
`exposure`                what ``tailscale serve status --json`` says of a port
`tailscale`               running ``tailscale``
`gate`                    the loop that brings these together
`record`                  what the gate leaves for ``obs-hub gate status``
`reporting`               its telemetry
========================= ==========================================================
"""
