"""The server: recognition over HTTP and WebSockets, and a web page.

`settings` holds the configuration and every limit; `access_control` and `connection` check and time out clients;
`admission` bounds the requests that are queued or running; `uploads` receives recordings; `service` and `batcher`
recognize them, with a `deadline` per answer; `live` serves streams; `app` defines the paths of the API; `run` starts
processes. Audio is held in memory for the duration of its request; it is neither stored nor logged.
"""
