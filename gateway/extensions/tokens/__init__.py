"""Who may use the gateway: bearer tokens with scopes.

``token`` is one token, ``token_file`` where they are kept, ``limits`` what bounds their use, ``authenticator`` what the
listeners ask.
"""
