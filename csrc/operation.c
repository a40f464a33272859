#include "operation.h"

#include <stdlib.h>
#include <string.h>

static const struct service *const services[] = {&datafactory_service,  &entra_service,
                                                 &vcenter_rest_service, &vcenter_api_service,
                                                 &arcgis_service,       NULL};

/* The service of that name, or NULL. */
const struct service *operation_service (const char *name) {
  const struct service *const *service = services;
  while (*service != NULL && strcmp((*service)->name, name) != 0)
    service++;
  return *service;
}

static int operation_compare (const void *a, const void *b) {
  const struct operation *x = a, *y = b;
  int order = strcmp(x->group, y->group);
  return order != 0 ? order : strcmp(x->name, y->name);
}

/* The operation of that group and name, or NULL. */
const struct operation *operation_find (const struct service *service, const char *group,
                                        const char *name) {
  struct operation wanted = {.group = group, .name = name};
  return bsearch(&wanted, service->operations, service->noperations, sizeof wanted,
                 operation_compare);
}
