"""Who may use the gateway: bearer tokens with scopes.

``token`` is one token, ``token_file`` where they are kept, ``limits`` what bounds their use, ``authenticator`` what the
listeners ask; ``own`` is the gateway's access to itself.
"""
