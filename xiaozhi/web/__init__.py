"""What both services do with those who connect: limits by address, refusals told in bursts,
clean request heads, and who may read details.

==============  =============================================================
``peers``       connections by address, also behind trusted proxies
``buckets``     how often something may happen, for each of many
``refusals``    who is not served: counted, told once a burst
``heads``       bytes that no request head may hold
``insiders``    who may read more of ``/health`` than its status
==============  =============================================================
"""
