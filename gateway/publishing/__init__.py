"""The page that is published: a portfolio and status page of files, which any web server can serve.

What people wrote (`content`) and what the hub and its store say (`hub`, `readings`) become pages (`site`). **Every word
on them is from the content; from the store come numbers alone**, and only those that the content asks for: telemetry
can hold anything, so no text of it is ever published.

============= ==========================================================================================
`content`     what a folder of YAML says: the site, its timeline, the components and charts it may show
`hub`         how the hub is now, asked of its API front
`readings`    numbers out of the store, for charts and for what is known of components
`uptime`      what is known of a component becomes days and outages
`drawing`     charts and days as SVG
`image`       the image by which networks show a link to the page
`documents`   what programs read: the feed, the site map, llms.txt
`site`        all of it as files
============= ==========================================================================================
"""
