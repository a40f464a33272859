--- Azure's clouds: where each signs in, and where its Resource Manager is.
--
-- See [National clouds](https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud).
return {
  public = {
    authority = "https://login.microsoftonline.com",
    endpoint = "https://management.azure.com",
    scope = "https://management.azure.com/.default",
  },
  usgovernment = {
    authority = "https://login.microsoftonline.us",
    endpoint = "https://management.usgovcloudapi.net",
    scope = "https://management.usgovcloudapi.net/.default",
  },
  china = {
    authority = "https://login.chinacloudapi.cn",
    endpoint = "https://management.chinacloudapi.cn",
    scope = "https://management.chinacloudapi.cn/.default",
  },
}
