"""The HTTP kit of all HTTP ports: routes, guards, limits, errors, common pages.

A route is one function and one line; :mod:`xiaozhi.web.routes` describes the parameters that a
function may have.

==============  =============================================================
``routes``      method and path to function: typed parameters, typed JSON bodies
``request``     a request as a frozen value
``replies``     replies as values, and the JSON form of errors
``guards``      management token, device token, this machine's own users
``site``        a port, with its routes
``options``     limits and style of a site
``channel``     a connection: clean heads, deadlines, an orderly end
``exchange``    one request: bounded body, dispatch, reply
``streaming``   a reply piece by piece
``multipart``   forms with files
``pages``       health and metrics
``posting``     messages posted to devices
``limits``      limits of clients by address, rates, refusals, origins, request heads
==============  =============================================================
"""
