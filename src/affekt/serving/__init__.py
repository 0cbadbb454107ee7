"""The server: recognition over HTTP and WebSockets, and a page for people.

`settings` says what a server may do and no more; `guard` and `connection` let in who may come, and for how long;
`uploads` takes a recording in, `gate` bounds how many there are, `engine` and `batching` recognize them, `live` listens
to streams, `app` joins all that to the paths of the API, and `run` gives it a socket. Audio is held in memory while its
request lasts: it is written nowhere and logged nowhere.
"""
