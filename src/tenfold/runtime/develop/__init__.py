"""`tenfold dev`: the app in the foreground, with a database of its own and the newest code.

`session` holds all of it together, `changes` watches the files, `door` holds the front door while the app is started
anew, `web` owns the app's process, which runs `app` with the request lines of `lines`. Nothing of it touches the
service's own servers, data or records.
"""
