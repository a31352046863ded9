"""systemd: telling it how the hub does (`notify`), and putting the hub's units onto a machine (`units`, `install`)."""
